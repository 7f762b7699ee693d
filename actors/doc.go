// Package actors runs the authentication broker: its packages decide when and where something is
// done, those in internal decide what. This package starts the others, reloads, drains, stops, and
// reports how they stand.
//
// # The way of a request
//
//	bytes -> connection -> router -+-> token worker --+ not a token
//	                               |                  v
//	                               +----------> cache shard -> backend slots -> backend
//	                                               |   ^             |
//	bytes <- connection <---------- answer --------+   +-------------+
//	                                   :
//	                                   +-> roster, after a yes
//
// A connection's reader decodes a request and sends it to the router of its domain. The router
// bounds what one domain has in flight, and picks the way. A token worker verifies tokens offline.
// A password goes to the cache shard that owns the user: it is answered from memory, waits for an
// identical question, or is put to the backend by way of the actor that holds the backend's slots.
// The backend's reply is remembered in the shard before the connection writes the answer. After a
// yes the domain's roster actor is notified; no login waits for it.
//
// A shard owns a record by the folded name. If a backend's answer is about an account of another
// name, as in a login by a mail address, the shard of the name asked keeps an alias, and sends the
// call on to the shard of the account.
//
// TestHops counts the messages until the answer has left, the one that makes the connection write
// and the one that frees a backend's slot among them:
//
//	token, or a password in memory      at most 3
//	password that must be asked about   at most 6, 2 of them to the shard
//	the same after a stored hash        at most 8, 3 of them to the shard
//
// Token workers and shards are shared by all domains, one per processor each, chosen by a hash of
// domain and user. A router per domain costs a message, but without it one busy domain could fill
// the queues of all.
//
// # Ownership
//
// Each piece of state has one owner. The packages import only those above them:
//
//   - supervise: actors, their mailboxes and restarts, the pool of goroutines.
//   - env: the actor system, log, clock, context and store, as one small value.
//   - metrics: the counters of answers.
//   - slots: a backend, the questions that run there or wait for a slot, its circuit breaker, its
//     budget of refused passwords, and the limits of its accounts. One actor per backend.
//   - domain: a domain's rules, backends and token keys, an immutable value. Shared has the counts
//     and log throttles that a reload keeps.
//   - call: a request and its answer; the number of requests in flight (Gate).
//   - tokens: the single-use tokens that were used.
//   - changes: when accounts were last changed, and the connections that have asked for that.
//   - memory: the records of users and the questions under way (a shard); the limits per client
//     address (Addresses); the goroutines that compute bcrypt (HashPool).
//   - rosters: the users with shared rosters to be updated, and the session with the XMPP server.
//     One actor per domain block.
//   - router: which domain answers for a name (Table); how much each has in flight (Router).
//   - front: listeners, connections, and the requests of a connection that have no answer yet.
//   - actors: the order of start, reload, drain and stop, and the sweeper.
//
// A backend stays open as long as a domain value holds it, and a domain value lives as long as a
// task holds it (supervise.RefCount). So a request that is between two backends ends with those
// with which it began.
//
// # One answer
//
// Every request is answered exactly once. The call owns its answer: the first caller of
// call.Call.Answer decides, by a compare-and-swap, and later ones change nothing. The callers are
// the actor that knows the answer; the mailbox, for an actor that panics, stops or has too long a
// queue; and the sweeper, which every 20 ms ends what is past its deadline, whatever became of it.
// The call also holds the identical requests that wait for it, so a restart of the shard does not
// lose them.
//
// An outcome that must be remembered, as a refusal, is a supervise.Continuation: full mailboxes
// take it, and after a panic it is sent again.
//
// # Reload, registered domains, idle domains
//
// Nothing is handed over, since no domain has a memory of its own. A user's record belongs to the
// same shard whatever the configuration says, and a router keeps no users.
//
// A reload makes everything new beside what runs (router.Table.Prepare), so an error changes
// nothing, and then exchanges pointers (router.Plan.Commit). A domain that keeps its name keeps its
// router, which gets another value. A request that is caught in between is routed once more: a
// router that ends admits none, and a shard sends back a request with a domain value that is not in
// force any more. An outcome is judged by the value in force when it arrives; an acceptance by
// former backends is not remembered, a refusal is. What the cache has of a backend is valid for its
// authority only (cache.User.Settle), so that another backend does not inherit passwords.
//
// What does change is which domain answers for a name, since "*" answers for all others, and
// whether its users are kept on disk. So the shards drop the users that the fallback has for the
// names that were added or removed, and all users of a domain that is gone; memory.Shards.Drop and
// Settle return when every shard has done so. Records on disk are deleted where the disk has
// missed, or is going to miss, refusals because the users are kept in memory only
// (router.Table.purge): they could accept a password that was refused meanwhile.
//
// A registered domain costs its name until its first request. That starts its router, which holds
// requests back while the record is read. A domain without requests for a while is dropped from
// memory and its router stops: last-used times are written to disk, the keyed MACs and refusals are
// forgotten. The next request starts another router.
//
// # The disk
//
// No actor reads or writes a disk. A user that is not in memory is read on another goroutine
// (memory.load). The first request that needs the record goes on from there: if it comes to a
// question that changes nothing in the record, the question goes straight to the backend's slots,
// and the shard sees the record together with the reply. Other requests wait in the shard.
//
// Writes go through store.WriteBehind, which batches them on its own goroutine and returns on a
// read what is not written yet. An answer waits for the disk only if a crash after it would be
// unsafe: a refusal of a remembered password, a changed account, a used token. If the store fails,
// the cache works from memory, and nothing waits for it.
//
// # Overload and drain
//
// Every queue is bounded. A connection with as many requests in flight as its ring takes is not
// read, so TCP slows its peer down. Everywhere else the excess is answered at once: "temporary
// failure", which means that the answer is not known now. A question waits for a backend's slot if
// it can be answered within its deadline, as estimated by what waits before it, the mean time of the
// backend and its slots; else it is refused at once. One whose time has become too short is ended when
// its turn comes, or at its deadline, early enough for the cache to answer in place of the backend.
//
// Drain accepts the connections that the kernel holds, closes the listeners, gives new connections
// a moment to ask, leaves further requests unread, so that their peers ask the next process, and waits
// until the answers in flight have left or the time is over. Stop fails what is left, then stops readers, routers, token
// workers and shards in this order, so that what a shard has to write reaches the disk.
//
// At an orderly restart StopForSuccessor takes a copy of what is remembered on that way: the limits when
// no question is put any more, tokens and users when nothing is learned any more. The next broker starts
// with it (Options.Former). What is known of a block's users comes into use with the block, and is judged
// by the block that there is then.
//
// # Goroutines
//
// The reader of a connection runs the actors to which it sends while they are idle, its own
// connection's actor included (see supervise, "Running an actor on the sender's goroutine"). A
// login that memory answers then takes no switch of goroutines. Work that waits runs elsewhere:
// questions to backends, disk reads and roster updates on goroutines of the supervise package's
// pool, bcrypt on the HashPool's, which has processors (GOMAXPROCS) of its own while there is
// something to compute.
package actors
