package valkeystore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"

	"github.com/valkey-io/valkey-go"
)

// script is a text that the server runs in one step, by its SHA-1 once it knows it.
type script struct {
	*valkey.Lua
	source, sum string
}

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source))
	return &script{valkey.NewLuaScript(source), source, hex.EncodeToString(sum[:])}
}

// exec runs the script.
func (l *script) exec(ctx context.Context, c valkey.Client, keys, args []string) valkey.ValkeyResult {
	return l.Exec(ctx, c, keys, args)
}

// sha is the command that runs the script if the server knows it.
func (l *script) sha(c valkey.Client, keys, args []string) valkey.Completed {
	return c.B().Evalsha().Sha1(l.sum).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

// text is the command that runs the script.
func (l *script) text(c valkey.Client, keys, args []string) valkey.Completed {
	return c.B().Eval().Script(l.source).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

// epochKey has the server's epoch: eight bytes that stand for it, what stands for the process and its data (40
// hexadecimal digits) and since when, in Unix milliseconds by its clock. Each process beside the store looks after
// it. A flush or a start without the data removes it. Another process on the server, be it the same after a
// restart or a replica that has taken over, has another run_id; a server that was a replica meanwhile has another
// replication id.
const epochKey = "meta/epoch"

// standing has what stands for the process and its data.
const standing = `
local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local run = redis.sha1hex(string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)'))
`

// beat looks after the epoch and returns it, and the number of replicas. ARGV[1] are eight bytes for a new one. A
// replica fails.
var beat = newScript(standing + `
if not string.find(info, 'role:master', 1, true) then
	return redis.error_reply('READONLY it is a replica')
end
local epoch = redis.call('GET', KEYS[1])
if not epoch or string.sub(epoch, 9, 48) ~= run then
	local t = redis.call('TIME')
	epoch = ARGV[1] .. run .. string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
	redis.call('SET', KEYS[1], epoch)
end
return {epoch, string.match(info, 'connected_slaves:(%d+)')}`)

// swap carries out changes. Each has four arguments: 1 to compare the version, the version, the new value (empty:
// none) and for how many milliseconds it is kept (0: for ever). It returns the index and the value of each that
// has another version.
var swap = newScript(`
local lost = {}
for i, key in ipairs(KEYS) do
	local a = 4 * (i - 1)
	if ARGV[a + 1] == '1' and redis.call('GETRANGE', key, 9, 24) ~= ARGV[a + 2] then
		lost[#lost + 1] = i - 1
		lost[#lost + 1] = redis.call('GET', key) or ''
	elseif ARGV[a + 3] == '' then
		redis.call('DEL', key)
	elseif ARGV[a + 4] == '0' then
		redis.call('SET', key, ARGV[a + 3])
	else
		redis.call('SET', key, ARGV[a + 3], 'PX', ARGV[a + 4])
	end
end
return lost`)

// claim puts KEYS[2] if it is free: 1 if it was, 0 if not, -1 if the epoch is not ARGV[1] any more, and -2 if that has
// not lasted for ARGV[2] milliseconds. ARGV[3] is the value, which is kept for ARGV[4] milliseconds.
var claim = newScript(standing + `
local epoch = redis.call('GET', KEYS[1])
if not epoch or string.sub(epoch, 1, 8) ~= ARGV[1] or string.sub(epoch, 9, 48) ~= run then
	return -1
end
local t = redis.call('TIME')
if t[1] * 1000 + math.floor(t[2] / 1000) - tonumber(string.sub(epoch, 49)) < tonumber(ARGV[2]) then
	return -2
end
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then
	return 1
end
return 0`)
