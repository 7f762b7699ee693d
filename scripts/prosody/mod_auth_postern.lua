-- mod_auth_postern: Prosody asks postern who its users are.
--
-- SPDX-License-Identifier: Apache-2.0
--
-- It speaks the protocol of ejabberd's external authentication (2-byte length, then
-- op:user:domain[:secret]; answered with a 2-byte value), because that has a word for
-- "cannot tell now", and because a password may hold any byte in it. Nothing here blocks
-- Prosody: connections live on its own event loop, requests are pipelined on them, and a
-- login waits in its session's own thread. Needs Prosody 0.12 or newer.
--
--   authentication = "postern"
--   postern_host = "127.0.0.1"      -- of a listener with protocol "ejabberd"
--   postern_port = 23662
--   postern_socket = "/path"        -- a Unix socket instead of host and port
--   postern_connections = 2         -- kept for each virtual host
--   postern_timeout = 8             -- seconds; under it lies postern's own deadline
--   postern_domain = module.host    -- what postern calls this host

local server = require "net.server";
local timer = require "util.timer";
local async = require "util.async";
local new_sasl = require "util.sasl".new;

local host = module.host;
local peer_host = module:get_option_string("postern_host", "127.0.0.1");
local peer_port = module:get_option_number("postern_port", 23662);
local peer_socket = module:get_option_string("postern_socket");
local pool_size = module:get_option_number("postern_connections", 2);
local patience = module:get_option_number("postern_timeout", 8);
local domain = module:get_option_string("postern_domain", host);

-- Pauses between attempts to connect, in seconds.
local pause_first, pause_most = 0.1, 5;
-- What a request may hold: the length is two bytes.
local frame_most = 65535;

local unavailable = "postern cannot tell at the moment";

local char, byte, sub, find = string.char, string.byte, string.sub, string.find;

-- A link is one place of the pool: at most one connection, and the requests that wait for
-- its answers in the order in which they were sent.
local links = {};
local unloaded = false;

local function settle(request, value)
	if request.done then return; end -- its time was over: the late answer goes nowhere
	request.done = true;
	request.value = value;
	if request.timer then timer.stop(request.timer); end
	request.wake();
end

-- Everything that waits on a lost connection is answered: whether postern acted on it
-- nobody knows.
local function fail_all(link)
	local waiting = link.waiting;
	link.waiting, link.first, link.last, link.buffer = {}, 1, 0, "";
	for _, request in pairs(waiting) do settle(request, nil); end
end

local connect;

local function lost(link, conn)
	if link.conn ~= conn then return; end
	link.conn, link.ready = nil, false;
	fail_all(link);
	if unloaded then return; end
	link.pause = math.min((link.pause or pause_first / 2) * 2, pause_most);
	timer.add_task(link.pause, function ()
		if not unloaded and not link.conn then connect(link); end
	end);
end

local listeners = {};

function listeners.onconnect(conn)
	local link = links[conn];
	if not link then return; end
	link.ready, link.pause = true, nil;
	module:log("debug", "connected to postern");
	for i = link.first, link.last do conn:write(link.waiting[i].frame); end
end

function listeners.onincoming(conn, data)
	local link = links[conn];
	if not link then return; end
	local buffer = link.buffer .. data;
	while #buffer >= 4 do
		local high, low, first, second = byte(buffer, 1, 4);
		local request = link.waiting[link.first];
		if high ~= 0 or low ~= 2 or not request then
			module:log("error", "postern_port does not lead to a listener with protocol \"ejabberd\"");
			conn:close();
			return;
		end
		link.waiting[link.first] = nil;
		link.first = link.first + 1;
		buffer = sub(buffer, 5);
		settle(request, first * 256 + second);
	end
	link.buffer = buffer;
end

function listeners.ondisconnect(conn, err)
	local link = links[conn];
	links[conn] = nil;
	if not link then return; end
	if link.ready then module:log("warn", "lost the connection to postern: %s", err or "closed"); end
	lost(link, conn);
end

-- A connection is never idle for too long: postern keeps it, and so does Prosody.
function listeners.onreadtimeout() return true; end

local function open_unix()
	local ok, unix = pcall(require, "socket.unix");
	if not ok then return nil, "LuaSocket has no Unix sockets here"; end
	-- Older LuaSocket exports the constructor itself.
	local conn = (type(unix) == "table" and (unix.stream or unix.tcp) or unix)();
	conn:settimeout(0.1); -- a local connect is answered at once or not at all
	local connected, err = conn:connect(peer_socket);
	if not connected then conn:close(); return nil, err; end
	conn:settimeout(0);
	return conn;
end

function connect(link)
	local conn, err;
	if peer_socket then
		local raw;
		raw, err = open_unix();
		if raw then conn, err = server.wrapclient(raw, peer_socket, 0, listeners, "*a"); end
	else
		conn, err = server.addclient(peer_host, peer_port, listeners, "*a");
	end
	if not conn then
		module:log("warn", "cannot connect to postern: %s", err or "unknown error");
		link.conn = link; -- anything that lost() takes for this attempt
		lost(link, link);
		return;
	end
	link.conn = conn;
	links[conn] = link;
end

-- The least busy link that is connected, or else any.
local function choose()
	local best;
	for i = 1, pool_size do
		local link = links[i];
		if link.conn and (not best or (link.ready and not best.ready)
			or (link.ready == best.ready and link.last - link.first < best.last - best.first)) then
			best = link;
		end
	end
	return best;
end

-- ask puts one request and waits, without blocking Prosody, for the value of its answer: 1
-- yes, 0 no, anything else, or nil, cannot tell.
local function ask(op, username, secret)
	-- A user or domain with a colon would shift the fields. NUL is where other programs stop.
	if find(username, "[:%c]") or (secret and (secret == "" or find(secret, "%z"))) then return 0; end
	local text = op .. ":" .. username .. ":" .. domain;
	if secret then text = text .. ":" .. secret; end
	if #text > frame_most then return 0; end
	local link = choose();
	if not link then return nil; end -- postern is away: say so at once
	local wait, done = async.waiter();
	local request = { frame = char(math.floor(#text / 256), #text % 256) .. text, wake = done };
	request.timer = timer.add_task(patience, function ()
		request.timer = nil;
		module:log("warn", "postern did not answer within %d s", patience);
		settle(request, nil);
	end);
	link.last = link.last + 1;
	link.waiting[link.last] = request;
	if link.ready then link.conn:write(request.frame); end
	wait();
	request.frame = nil;
	return request.value;
end

local provider = { name = "postern" };

-- yes, or nil and what is wrong, as Prosody's own providers answer.
local function answer(value, refusal)
	if value == 1 then return true; end
	if value == 0 then return nil, refusal; end
	return nil, unavailable;
end

function provider.test_password(username, password)
	return answer(ask("auth", username, password), "Auth failed. Invalid username or password.");
end

function provider.user_exists(username)
	return answer(ask("isuser", username), "Auth failed. Invalid username.");
end

function provider.set_password(username, password)
	return answer(ask("setpass", username, password), "The password was not changed.");
end

function provider.create_user(username, password)
	return answer(ask("tryregister", username, password), "The account was not created.");
end

function provider.delete_user(username)
	return answer(ask("removeuser", username), "The account was not removed.");
end

-- The SASL exchange fails with temporary-auth-failure where postern cannot tell, so that
-- clients keep the password and try again.
function provider.get_sasl_handler()
	local temporary = false;
	local handler = new_sasl(host, {
		plain_test = function (_, username, password)
			local value = ask("auth", username, password);
			temporary = value ~= 0 and value ~= 1;
			return value == 1, true;
		end;
	});
	local process = handler.process;
	function handler:process(message)
		temporary = false;
		local status, condition, text = process(self, message);
		if status == "failure" and temporary then
			return "failure", "temporary-auth-failure", unavailable;
		end
		return status, condition, text;
	end
	return handler;
end

module:provides("auth", provider);

for i = 1, pool_size do
	links[i] = { waiting = {}, first = 1, last = 0, buffer = "" };
	connect(links[i]);
end

function module.unload()
	unloaded = true;
	for i = 1, pool_size do
		local link = links[i];
		fail_all(link);
		if link.conn and link.conn ~= link then link.conn:close(); end
	end
end
