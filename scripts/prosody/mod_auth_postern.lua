-- mod_auth_postern: an authentication provider that asks postern.
--
-- SPDX-License-Identifier: Apache-2.0
--
-- It uses the protocol of ejabberd's external authentication (2-byte length, then
-- op:user:domain[:secret]; the answer is a 2-byte value), because that can express temporary
-- failures and passwords with any bytes in them. It never blocks Prosody: connections are on
-- Prosody's event loop, requests are pipelined on them, and a login waits in the coroutine of
-- its session. It needs Prosody 0.12 or newer.
--
--   authentication = "postern"
--   postern_host = "127.0.0.1"      -- of a postern listener with protocol "ejabberd"
--   postern_port = 23662
--   postern_socket = "/path"        -- Unix socket, instead of host and port
--   postern_connections = 8         -- maximum per virtual host; opened as needed
--   postern_timeout = 10            -- seconds; longer than the deadline of the listener (9s)
--   postern_domain = module.host    -- name of this host's domain at postern

local server = require "net.server";
local connect_tcp = require "net.connect".connect;
local new_resolver = require "net.resolvers.basic".new;
local timer = require "util.timer";
local async = require "util.async";
local random_bytes = require "util.random".bytes;
local new_sasl = require "util.sasl".new;
local stringprep = require "util.encodings".stringprep;
local monotonic = require "util.time".monotonic;

local host = module.host;
local peer_host = module:get_option_string("postern_host", "127.0.0.1");
local peer_port = module:get_option_number("postern_port", 23662);
local peer_socket = module:get_option_string("postern_socket");
local pool_size = math.max(1, module:get_option_number("postern_connections", 8));
local patience = module:get_option_number("postern_timeout", 10);
local domain = module:get_option_string("postern_domain", host);
-- Prosody resolves names by DNS only, and many name servers do not know "localhost".
if peer_host == "localhost" then peer_host = "127.0.0.1"; end

-- First and longest pause between attempts to connect, and the limit of an attempt, in seconds.
local pause_first, pause_most, connect_most = 0.1, 5, 3;
-- Maximum number of unanswered requests on a connection; the default of the listener's "pipeline".
local depth = 64;
-- Maximum size of a request: its length is sent in two bytes.
local frame_most = 65535;

local unavailable = "postern cannot tell at the moment";

local char, byte, sub, find, match = string.char, string.byte, string.sub, string.find, string.match;

-- prosodyctl does not run an event loop, so the module does. The loop of libevent
-- (network_backend = "event") runs until it is stopped.
local alone = prosody.process_type == "prosodyctl";
local endless = find(server.get_backend(), "libevent", 1, true);

-- A link is a place in the pool. It has link.attempt while it connects, link.conn once it is
-- connected, and neither when it is empty. link.sent[first..last] holds its unanswered requests in
-- the order in which they were sent; answers come in the same order.
local links, link_of, attempt_of = {}, {}, {};
-- Requests that wait for a link, each at most for postern_timeout.
local queue, queue_first, queue_last = {}, 1, 0;
local pause, retry; -- the last pause between attempts to connect, and its timer while it runs
local away, ended, pumping = false, false, false;

local function settle(request, value)
	if request.done then return; end -- it has timed out: drop the late answer
	request.done, request.value, request.frame = true, value, nil;
	if request.timer then timer.stop(request.timer); end
	request.wake();
end

local function live(link) return link.conn or link.attempt; end

local function any_live()
	for i = 1, pool_size do
		if live(links[i]) then return true; end
	end
	return false;
end

local function load(link) return link.last - link.first + 1; end

local connect;

-- choose returns the least busy link that can take another request. It opens one more link if all
-- are busy, so that quick answers do not wait behind slow ones for long.
local function choose()
	local best, spare, opening;
	for i = 1, pool_size do
		local link = links[i];
		if link.conn then
			if not best or load(link) < load(best) then best = link; end
		elseif link.attempt then
			opening = true;
		else
			spare = spare or link;
		end
	end
	if spare and not opening and not retry and not ended and (not best or load(best) > 0) then connect(spare); end
	return best and load(best) < depth and best or nil;
end

-- pump sends waiting requests while links have room. If no link is connected or connecting, the
-- requests fail, except those that were in flight when a connection broke: they wait for the next
-- attempt, since a restart of postern is short.
local function pump()
	if pumping then return; end -- called again by an attempt that failed at once, below
	pumping = true;
	while queue_first <= queue_last do
		local request = queue[queue_first];
		local link = not request.done and choose();
		if link then
			link.last = link.last + 1;
			link.sent[link.last] = request;
			request.link, request.tries, request.sent = link, request.tries + 1, monotonic();
			link.conn:write(request.frame);
		elseif not request.done then
			break;
		end
		queue[queue_first] = nil;
		queue_first = queue_first + 1;
	end
	pumping = false;
	if any_live() then return; end
	local hopeless = {};
	for i = queue_first, queue_last do
		if queue[i].tries == 0 or not retry then hopeless[#hopeless + 1] = queue[i]; end
	end
	for _, request in ipairs(hopeless) do settle(request, nil); end
end

local function enqueue(request)
	queue_last = queue_last + 1;
	queue[queue_last] = request;
end

local function back_off()
	if retry or ended then return; end
	pause = math.min(pause and pause * 2 or pause_first, pause_most);
	retry = timer.add_task(pause * (0.5 + math.random() / 2), function ()
		retry = nil;
		if not ended and not any_live() then connect(links[1]); end
	end);
end

-- empty gives up the connection or attempt of a link. Its questions are sent again, once. Changes
-- are not: postern may have made them already.
local function empty(link, why)
	local sent, first, last = link.sent, link.first, link.last;
	if link.since and monotonic() - link.since > pause_most then pause = nil; end
	if link.attempt then timer.stop(link.attempt.timer); end
	link.conn, link.attempt, link.since, link.buffer = nil, nil, nil, "";
	link.sent, link.first, link.last = {}, 1, 0;
	back_off();
	if not away and not ended and not any_live() then
		away = true;
		module:log("warn", "postern is not reachable (%s): logins fail as temporary until it is back", why);
	end
	local lost = {};
	for i = first, last do
		if sent[i].question and sent[i].tries == 1 then enqueue(sent[i]); else lost[#lost + 1] = sent[i]; end
	end
	for _, request in ipairs(lost) do settle(request, nil); end
	pump();
end

-- drop closes a connection and ignores what still arrives on it.
local function drop(link, why)
	local conn = link.conn;
	link_of[conn] = nil;
	empty(link, why);
	conn:close();
end

local listeners = {};

function listeners.onattach(conn, attempt) attempt_of[conn] = attempt; end

function listeners.onconnect(conn)
	local attempt = attempt_of[conn];
	attempt_of[conn] = nil;
	local link = attempt and attempt.link;
	if not link or link.attempt ~= attempt then -- it has been given up
		conn:close();
		return;
	end
	timer.stop(attempt.timer);
	link.conn, link.attempt, link.since = conn, nil, monotonic();
	link_of[conn] = link;
	if away then
		away = false;
		module:log("info", "postern is back");
	end
	pump();
end

function listeners.onincoming(conn, data)
	local link = link_of[conn];
	if not link then return; end
	local buffer, answered, wrong = link.buffer .. data, {}, false;
	while #buffer >= 4 and not wrong do
		local high, low, first, second = byte(buffer, 1, 4);
		local request = link.sent[link.first];
		wrong = high ~= 0 or low ~= 2 or not request;
		if not wrong then
			link.sent[link.first] = nil;
			link.first = link.first + 1;
			buffer = sub(buffer, 5);
			answered[#answered + 1] = { request, first * 256 + second };
		end
	end
	link.buffer = buffer;
	if answered[1] then pause = nil; end -- the connection works
	if wrong then
		module:log("error", "postern_port or postern_socket does not lead to a listener with protocol \"ejabberd\"");
		drop(link, "not its protocol");
	end
	-- Last, because a session that is woken may send its next request at once.
	for _, a in ipairs(answered) do settle(a[1], a[2]); end
	pump();
end

function listeners.ondisconnect(conn, err)
	local link, attempt = link_of[conn], attempt_of[conn];
	link_of[conn], attempt_of[conn] = nil, nil;
	if link then
		empty(link, err or "closed");
	elseif attempt and attempt.link.attempt == attempt then
		empty(attempt.link, err or "refused");
	end
end

function listeners.onfail(attempt, err)
	if attempt.link.attempt == attempt then empty(attempt.link, err); end
end

-- Idle connections stay open; postern does not close them either.
function listeners.onreadtimeout() return true; end

local function connect_unix(attempt)
	local ok, unix = pcall(require, "socket.unix");
	if not ok then return nil, "LuaSocket has no Unix sockets here"; end
	-- Older versions of LuaSocket export the constructor itself.
	local raw = (type(unix) == "table" and (unix.stream or unix.tcp) or unix)();
	raw:settimeout(0); -- connecting to a Unix socket succeeds or fails at once
	local connected, err = raw:connect(peer_socket);
	if not connected then raw:close(); return nil, err; end
	local conn;
	conn, err = server.wrapclient(raw, peer_socket, 0, listeners, "*a");
	if not conn then raw:close(); return nil, err; end
	attempt_of[conn] = attempt;
	return true;
end

function connect(link)
	local attempt = { link = link };
	link.attempt = attempt;
	attempt.timer = timer.add_task(connect_most, function ()
		if link.attempt == attempt then empty(link, "no connection in time"); end
	end);
	if peer_socket then
		local ok, err = connect_unix(attempt);
		if not ok then listeners.onfail(attempt, err); end
	else
		connect_tcp(new_resolver(peer_host, peer_port, "tcp"), listeners, nil, attempt);
	end
end

-- overdue ends the wait for an answer. A connection whose first answer is that late is stuck.
local function overdue(request)
	request.timer = nil;
	module:log("warn", "postern did not answer within %g s", patience);
	settle(request, nil);
	local link = request.link;
	local head = link and link.conn and link.sent[link.first];
	if head and monotonic() - head.sent > 0.9 * patience then drop(link, "no answer in time"); end
end

-- ask sends a request and waits, without blocking Prosody, for the value of the answer: 1 is yes, 0
-- is no, and anything else or nil is a temporary failure.
local function ask(op, username, secret)
	-- A colon in the user name would shift the fields.
	if type(username) ~= "string" or find(username, "[:%c]") then return 0; end
	local text = op .. ":" .. username .. ":" .. domain;
	if secret then text = text .. ":" .. secret; end
	if #text > frame_most then return 0; end
	local wait, wake;
	if alone then
		wake = function () if endless then server.setquitting("once"); end end;
	elseif async.ready() then
		wait, wake = async.waiter();
	else
		module:log("error", "%s was asked where Prosody cannot wait: %s", op, debug.traceback());
		return nil;
	end
	local request = {
		frame = char(math.floor(#text / 256), #text % 256) .. text, tries = 0, wake = wake,
		question = op == "auth" or op == "isuser",
	};
	request.timer = timer.add_task(patience, function () overdue(request); end);
	enqueue(request);
	pump();
	if wait then
		wait();
	else
		while not request.done do server.loop(true); end
	end
	return request.value;
end

-- prepare applies SASLprep to a password. Prosody's own takes at most 1023 bytes, but it does not
-- change printable ASCII, so longer tokens pass as they are. Control characters are refused.
local function prepare(secret)
	if type(secret) ~= "string" or secret == "" or find(secret, "%c") then return nil; end
	if not find(secret, "[^ -~]") then return secret; end
	secret = stringprep.saslprep(secret);
	return secret ~= "" and secret or nil;
end

local provider = { name = "postern" };

-- answer converts a value to what Prosody's providers return: true, or nil and an error message.
local function answer(value, refusal)
	if value == 1 then return true; end
	if value == 0 then return nil, refusal; end
	return nil, unavailable;
end

local function answer_with(op, username, password, refusal)
	local secret = prepare(password);
	if not secret then return nil, "A password must not be empty nor hold control characters."; end
	return answer(ask(op, username, secret), refusal);
end

function provider.test_password(username, password)
	return answer_with("auth", username, password, "Auth failed. Invalid username or password.");
end

function provider.user_exists(username)
	return answer(ask("isuser", username), "Auth failed. Invalid username.");
end

function provider.set_password(username, password)
	return answer_with("setpass", username, password, "The password was not changed.");
end

function provider.create_user(username, password)
	-- prosodyctl 0.12 creates an account again to change its password.
	if alone and password and ask("isuser", username) == 1 then return provider.set_password(username, password); end
	-- Newer Prosody sets the password later. Until then the account has a random one.
	if password == nil then
		password = random_bytes(32):gsub(".", function (c) return ("%02x"):format(byte(c)); end);
	end
	return answer_with("tryregister", username, password, "The account was not created.");
end

function provider.delete_user(username)
	return answer(ask("removeuser", username), "The account was not removed.");
end

-- postern cannot list accounts. These are the users that are logged in.
function provider.users() return next, prosody.hosts[host].sessions; end

-- postern has no disabled accounts. Without this, newer Prosody takes every account for disabled.
function provider.is_enabled() return true; end

-- Prosody's own PLAIN takes at most 1023 bytes and cuts the password at a NUL.
local function plain(handler, message)
	local name, secret = match(message or "", "^[^%z]*%z([^%z]+)%z([^%z]+)$");
	name = name and stringprep.saslprep(name);
	name = name and stringprep.nodeprep(name);
	secret = secret and prepare(secret);
	if not name or name == "" or not secret then
		return "failure", "malformed-request", "Invalid username or password.";
	end
	handler.username = name;
	local value = ask("auth", name, secret);
	if value == 1 then return "success"; end
	if value == 0 then
		return "failure", "not-authorized", "Unable to authorize you with the authentication credentials you've sent.";
	end
	-- This error makes clients keep the password and try again.
	return "failure", "temporary-auth-failure", unavailable;
end

local function with_plain(handler)
	local clean_clone = handler.clean_clone;
	handler.process = plain; -- there is no other mechanism
	function handler:clean_clone() return with_plain(clean_clone(self)); end
	return handler;
end

function provider.get_sasl_handler()
	return with_plain(new_sasl(host, {
		plain_test = function (_, username, password) return provider.test_password(username, password), true; end;
	}));
end

for i = 1, pool_size do
	links[i] = { sent = {}, first = 1, last = 0, buffer = "" };
end

module:provides("auth", provider);
connect(links[1]);

-- Without this, reconnecting would keep Prosody from stopping.
module:hook_global("server-stopping", function () ended = true; end);

function module.unload()
	ended = true;
	if retry then timer.stop(retry); end
	for i = 1, pool_size do
		if links[i].conn then drop(links[i], "unloaded"); elseif links[i].attempt then empty(links[i], "unloaded"); end
	end
end
