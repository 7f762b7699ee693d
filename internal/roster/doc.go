// Package roster keeps the shared groups of an XMPP server as the backend has them. Parse reads
// the backend's answer about one user's groups, Desired collects the answers of a run, a Plan
// compares them with the known state (State, in the store), and a Server carries out the
// difference.
//
// # What an answer says
//
// An answer lists every member of every group of one user. It says nothing about other groups, so
// those stay as they are: a member leaves a group with the next login of the user or of a remaining
// member. Of several answers in one run the latest counts. A document that is not a roster changes
// nothing, since an error page must not empty the groups.
//
// # What may be interrupted
//
// Any step may fail, be refused, or be followed by a crash, and the backend may then give an
// earlier answer again. So the store never claims more than is certain:
//
//   - A group is marked dirty before its first change. The members of a dirty group may or may
//     not be on the server, which is asked before the group is next compared.
//   - The hash of a user's last applied answer is forgotten before the first step and written
//     after the last one, if nothing was refused. An answer with the same hash needs no
//     comparison. When a group changes, the hashes of all its members are forgotten too.
//   - A full name is forgotten before a new one is set.
//
// Repeating a step does no harm: ejabberd's commands are idempotent.
//
// # Servers
//
// ejabberd takes commands, by ejabberdctl or over HTTP. It accepts members of other domains
// without listing them, so those are removed even if they are not listed. Prosody's mod_groups
// reads a file, which is written as a whole.
package roster
