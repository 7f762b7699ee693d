// Package valkeystore keeps the store of several brokers on one Valkey (8 or newer) or Redis (7 or newer) server.
//
// # Keys and values
//
// Keys are those of package store behind a prefix. A value has a head before its content: the layout, the epoch
// in which it was written, and the version of the record, which the writer makes up. All changes of a record are
// made by one script, which compares the version first (Store.Swap).
//
// # The watch
//
// One connection has the server tell it the keys that change (CLIENT TRACKING in broadcast mode), and sends a
// heartbeat twice a second. An answer proves that nothing was missed up to the moment the heartbeat was sent:
// Term says so for staleAfter. After the connection was lost, or the server was emptied, another term begins.
// The server tells of this process's own writes as well, since scripts make them: those are recognised by
// their versions, and not passed on.
//
// # Epochs
//
// A server that was emptied, restarted or replaced by a replica may have lost what was written last. So the store
// has an epoch, which the heartbeats renew when they find none, another server process, or another replication id. A record
// of a former epoch is marked (store.Record.Former), and nothing can be claimed until what was lost
// with the former epoch has expired (claimAfter).
//
// # Sentinel and Cluster
//
// The server is where a majority of the Sentinels, or of the cluster's nodes, says (see agreed). All keys of a store have one
// hash tag there, so that scripts may touch several of them, and one server at a time has them all. A change is done
// when a replica has it, unless there is none.
//
// # A store that is away
//
// Open succeeds without the server, and every call fails with an error that wraps store.ErrAway until it is there.
// Reads of records wait for readWait only, since logins wait for them.
package valkeystore
