package valkeystore

import "github.com/valkey-io/valkey-go"

// epochKey has the server's epoch: eight bytes that stand for it, the run_id of the process (40 hexadecimal
// digits) and since when, in Unix milliseconds by its clock. Each process beside the store looks after it. A flush
// or a start without the data removes it; another process on the server, be it the same after a restart or a
// replica that has taken over, has another run_id.
const epochKey = "meta/epoch"

// beat looks after the epoch and returns it. ARGV[1] are eight bytes for a new one.
var beat = valkey.NewLuaScript(`
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local epoch = redis.call('GET', KEYS[1])
if not epoch or string.sub(epoch, 9, 48) ~= run then
	local t = redis.call('TIME')
	epoch = ARGV[1] .. run .. string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
	redis.call('SET', KEYS[1], epoch)
end
return epoch`)

// swap carries out changes. Each has four arguments: 1 to compare the version, the version, the new value (empty:
// none) and for how many milliseconds it is kept (0: for ever). It returns the index and the value of each that
// has another version.
var swap = valkey.NewLuaScript(`
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
var claim = valkey.NewLuaScript(`
local epoch = redis.call('GET', KEYS[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
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
