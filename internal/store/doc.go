// Package store keeps what must outlive the process: verifiers, nonces, the domain registry and
// roster state. Store is a small interface over keys and bytes. Pebble, the default,
// is an embedded database in a directory that one process at a time can open. Package valkeystore keeps a
// store on a server that several processes use: a Shared store, with what the others need beyond Store.
//
// # Keys and values
//
// A key starts with its kind (Credentials, Nonces, Domains, Roster, AppPasswords, Meta). Parts of a key are
// separated by a NUL, which no name contains, so the keys of one domain have a common prefix that
// no other domain's keys have. Every value starts with a version byte of its own, and the key
// meta/format has the version of the layout as a whole: a store of a newer version is not opened
// rather than misread. ValueReader reads the fields of a value.
//
// The key meta/serial stands for the content as a whole: it changes with the first change after the
// store was opened (see Pebble.Renew). So a process can see whether another has changed the store
// meanwhile.
//
// # Durability
//
// Apply writes either at once (sync) or within 200 ms. Registry, roster state and nonces are
// written at once, since their results are reported to a peer. A cache record is normally not: an
// answer must not wait for the disk, and a lost verifier costs one question. The exception is the
// removal of a refused secret, which the answer waits for. Many such changes at the same time are
// combined by a WriteBehind into one commit with one fsync.
//
// # A store that fails
//
// Authentication goes on without a store. Pebble ends the process when it cannot write its log or
// finds a damaged file; here that becomes an error. After it the store is not used again until
// the next start: every call returns ErrFailed, and the cache works from memory.
//
// What the broker learns then is missing from the store, such as that a password was changed. The
// file "complete" beside pebble's files stands for a store without such gaps. It is removed when
// a write fails or a broker starts without the store (removing a file needs no space on a full
// disk), and a store that is opened without it forgets its cached passwords.
package store
