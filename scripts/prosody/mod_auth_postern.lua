-- mod_auth_postern: an authentication provider that asks postern.
--
-- SPDX-License-Identifier: Apache-2.0
--
-- It uses the protocol of ejabberd's external authentication (2-byte length, then
-- op:user:domain[:secret]; the answer is a 2-byte value), because that can express temporary
-- failures and passwords with any bytes in them. A connection begins with a question that only
-- newer versions of postern answer with yes; then it has further operations, and postern reports
-- changes of accounts on it: see "Prosody" in the documentation of postern's package wire. It never
-- blocks Prosody: connections are on Prosody's event loop, requests are pipelined on them, and a
-- login waits in the coroutine of its session. It needs Prosody 0.12 or newer.
--
--   authentication = "postern"
--   postern_address = "127.0.0.1:23662"  -- of a listener with protocol "ejabberd"; or "/path" of a Unix socket
--   postern_connections = 8              -- maximum per virtual host; opened as needed
--   postern_timeout = 10                 -- seconds; longer than the deadline of the listener (9s)
--   postern_domain = module.host         -- name of this host's domain at postern
--   cut_sessions = false                 -- end a user's sessions when the password is changed or the account disabled

local server = require "net.server";
local connect_tcp = require "net.connect".connect;
local new_resolver = require "net.resolvers.basic".new;
local timer = require "util.timer";
local async = require "util.async";
local random_bytes = require "util.random".bytes;
local new_sasl = require "util.sasl".new;
local encodings = require "util.encodings";
local stringprep, base64 = encodings.stringprep, encodings.base64.encode;
local time = require "util.time";
local monotonic = time.monotonic;

local char, byte, sub, find, match = string.char, string.byte, string.sub, string.find, string.match;
local gsub, gmatch = string.gsub, string.gmatch;

local host = module.host;
local address = module:get_option_string("postern_address");
local cut_sessions = module:get_option_boolean("cut_sessions", false);
local plain_unencrypted = module:get_option_boolean("allow_unencrypted_plain_auth", false);
local pool_size = math.max(1, module:get_option_number("postern_connections", 8));
local patience = module:get_option_number("postern_timeout", 10);
local domain = module:get_option_string("postern_domain", host);
local disabled_mechanisms = module:get_option_set("disable_sasl_mechanisms", {});

if not address then -- the names of 0.1; "prosodyctl check" takes one that ends in _port for an option of the server
	local old_host, old_port = module:get_option_string("postern_host"), module:get_option_number("postern_port");
	address = module:get_option_string("postern_socket");
	if not address and (old_host or old_port) then
		old_host = old_host or "127.0.0.1";
		if find(old_host, ":", 1, true) then old_host = "[" .. old_host .. "]"; end
		address = old_host .. ":" .. (old_port or 23662);
	end
	if address then
		module:log("warn", "postern_host, postern_port and postern_socket have another name: write postern_address = %q", address);
	end
end
address = address or "127.0.0.1:23662";
local peer_socket = match(address, "^unix:(.+)$") or match(address, "^/.*$");
local peer_host, peer_port = match(address, "^%[?([^%[%]]+)%]?:(%d+)$");
if not peer_socket and not peer_host then
	error("postern_address is neither \"host:port\" nor the path of a Unix socket: " .. address, 0);
end
-- Prosody resolves names by DNS only, and many name servers do not know "localhost".
if peer_host == "localhost" then peer_host = "127.0.0.1"; end

-- First and longest pause between attempts to connect, and the limit of an attempt, in seconds.
local pause_first, pause_most, connect_most = 0.1, 5, 3;
-- Maximum number of unanswered requests on a connection; the default of the listener's "pipeline".
local depth = 64;
-- Maximum size of a request: its length is sent in two bytes. No frame of postern is longer than the second, but
-- answers to messages of SCRAM and to bearer tokens, which are at most the third.
local frame_most, reply_most, sasl_most = 65535, 2048, 16400;
-- Pause between questions of what postern can do, in seconds.
local refresh_every = 60;

local unavailable = "This is not possible at the moment; please try again later.";

-- The beginning of a frame that reports a change, and its kinds.
local change_mark, kind_disabled, kind_removed = byte("P"), byte("d"), byte("r");

-- prosodyctl does not run an event loop, so the module does. The loop of libevent
-- (network_backend = "event") runs until it is stopped.
local alone = prosody.process_type == "prosodyctl";
local endless = find(server.get_backend(), "libevent", 1, true);

-- A link is a place in the pool. It has link.attempt while it connects, link.conn once it is
-- connected and postern has said what it can do, and neither when it is empty. link.extended is true
-- if postern knows more than ejabberd's protocol. link.sent[first..last] holds its unanswered requests
-- in the order in which they were sent; answers come in the same order.
local links, link_of, attempt_of = {}, {}, {};
-- Requests that wait for a link, each at most for postern_timeout.
local queue, queue_first, queue_last = {}, 1, 0;
local pause, retry; -- the last pause between attempts to connect, and its timer while it runs
local away, ended, pumping = false, false, false;
local tokens = false; -- postern has one-time tokens for the domain
-- All accounts can log in by SCRAM, and with bearer tokens. Clients that have done so do not go back to PLAIN, or have no
-- password, so it is known over a restart.
local scram, bearer, mechanism_store = false, false, module:open_store("postern_mechanisms");
if not alone then
	local known = mechanism_store:get() or {};
	scram, bearer = known.scram or false, known.bearer or false;
end
-- Prosody 13 and newer have OAUTHBEARER, and their modules know of it.
local knows_bearer = pcall(require, "util.sasl.oauthbearer");
local heard = 0;      -- up to this time, in seconds, changes of accounts were reported

-- What postern has said of accounts: { changed = time of the last change, in seconds; disabled = boolean }.
-- It is kept while postern is away, and over a restart of Prosody. The name "" stands for all of them.
local accounts = {};
local account_store = module:open_store("postern_accounts");

-- account never remembers that a name is unknown: clients invent names.
local function account(username)
	local known = accounts[username];
	if not known and not alone then
		known = account_store:get(username ~= "" and username or nil);
		accounts[username] = known;
	end
	return known or {};
end

-- learn takes the time of an account's last change, and reports whether it is news.
local function learn(username, changed, disabled)
	local known = account(username);
	local moved = changed > (known.changed or 0);
	if moved or (known.disabled or false) ~= disabled then
		accounts[username] = { changed = math.max(changed, known.changed or 0), disabled = disabled };
		if not alone then account_store:set(username ~= "" and username or nil, accounts[username]); end
	end
	return moved;
end

-- seconds reads a time of postern, milliseconds in eight bytes.
local function seconds(frame, from)
	local value = 0;
	for i = from, from + 7 do value = value * 256 + byte(frame, i); end
	return value / 1000;
end

-- What Prosody itself has asked postern to change, by "op:username": when. It fires the events, and
-- the user who changes a password stays online.
local own = {};

-- is_own reports whether a change is the first since Prosody has asked for one like it.
local function is_own(op, username)
	local key = op .. ":" .. username;
	local at = own[key];
	own[key] = nil;
	return at and monotonic() - at < 3 * patience;
end

local function close_sessions(username, condition, text)
	local user = prosody.hosts[host].sessions[username];
	for _, session in pairs(user and user.sessions or {}) do session:close({ condition = condition, text = text }); end
end

-- changes carries out what follows from a change that postern reports.
local changes = async.runner(function (change)
	local username, kind = change.username, change.kind;
	local mine = is_own(kind == kind_removed and "removeuser" or "setpass", username);
	if kind == kind_removed and not mine then
		prosody.events.fire_event("user-deleted", { username = username, host = host });
	elseif kind == kind_disabled then
		prosody.events.fire_event("user-disabled", { username = username, host = host });
	end
	if not cut_sessions then return; end
	if kind == kind_removed or kind == kind_disabled then
		close_sessions(username, "not-authorized", "Account disabled");
	elseif username == "" then
		for name in pairs(prosody.hosts[host].sessions) do close_sessions(name, "reset", "Password changed"); end
	elseif not mine then
		close_sessions(username, "reset", "Password changed");
	end
end);

local function on_change(frame)
	local username = sub(frame, 11);
	if username ~= "" then username = stringprep.nodeprep(username); end
	if not username then return; end
	local kind, changed = byte(frame, 2), seconds(frame, 3);
	-- It comes on every connection, and again after a break.
	if not learn(username, changed, kind == kind_disabled) then return; end
	module:log("info", "%s@%s was changed: what was issued before is not valid any more", username == "" and "*" or username, host);
	changes:run({ username = username, kind = kind });
end

-- watched takes the answer to watch: its high byte says what else there is.
local function watched(value)
	if value % 256 ~= 1 and value ~= 0 then return; end
	tokens = math.floor(value / 256) % 2 == 1;
	local proofs, bearers = math.floor(value / 512) % 2 == 1, math.floor(value / 1024) % 2 == 1;
	if (proofs ~= scram or bearers ~= bearer) and not alone then
		mechanism_store:set(nil, { scram = proofs, bearer = bearers });
	end
	scram, bearer = proofs, bearers;
end

local function settle(request, value)
	if request.done then return; end -- it has timed out: drop the late answer
	request.done, request.value, request.text, request.extended = true, value, nil, nil;
	if request.timer then timer.stop(request.timer); end
	if request.watch and value then watched(value); end
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

local function framed(text) return char(math.floor(#text / 256), #text % 256) .. text; end

local function send(link, request)
	link.last = link.last + 1;
	link.sent[link.last] = request;
	request.link, request.tries, request.sent = link, request.tries + 1, monotonic();
	link.conn:write(framed(link.extended and request.extended or request.text));
end

-- watch is the question that begins a connection: report changes of the domain's accounts on it, first
-- those that were missed.
local function watch() return "watch:" .. ("%.0f"):format(heard * 1000) .. ":" .. domain; end

-- pump sends waiting requests while links have room. If no link is connected or connecting, the
-- requests fail, except those that were in flight when a connection broke: they wait for the next
-- attempt, since a restart of postern is short.
local function pump()
	if pumping then return; end -- called again by an attempt that failed at once, below
	pumping = true;
	while queue_first <= queue_last do
		local request = queue[queue_first];
		local link = not request.done and choose();
		if link and request.sasl and not link.extended then -- to a version that would take it for a wrong password
			settle(request, nil);
		elseif link then
			send(link, request);
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
	local attempt = link.attempt;
	if link.extended then heard = time.now() - pause_most; end
	link.conn, link.attempt, link.since, link.buffer, link.extended = nil, nil, nil, "", nil;
	if attempt then
		timer.stop(attempt.timer);
		if attempt.conn then -- postern has not said what it can do
			link_of[attempt.conn] = nil;
			attempt.conn:close();
		end
	end
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
	attempt.conn = conn;
	link_of[conn] = link;
	conn:write(framed(watch()));
end

-- connected takes a link into use. value is postern's answer to watch: 0 is a version that does not
-- know it.
local function connected(link, value)
	local attempt = link.attempt;
	timer.stop(attempt.timer);
	link.conn, link.attempt, link.since, link.extended = attempt.conn, nil, monotonic(), value ~= 0;
	watched(value);
	if away then
		away = false;
		module:log("info", "postern is back");
	end
end

-- take handles one frame of postern, and reports whether it makes sense.
local function take(link, frame, answered)
	if link.attempt then -- the first answer
		if #frame ~= 2 then return false; end
		connected(link, byte(frame, 1) * 256 + byte(frame, 2));
		return true;
	end
	if link.extended and byte(frame) == change_mark and #frame >= 10 then
		answered[#answered + 1] = { change = frame };
		return true;
	end
	local request = link.sent[link.first];
	if not request or not (#frame == 2 or request.account and #frame == 10 or request.sasl) then return false; end
	link.sent[link.first] = nil;
	link.first = link.first + 1;
	if request.account and #frame == 10 then request.changed = seconds(frame, 3); end
	if request.sasl then request.message = sub(frame, 3); end
	answered[#answered + 1] = { request, byte(frame, 1) * 256 + byte(frame, 2) };
	return true;
end

function listeners.onincoming(conn, data)
	local link = link_of[conn];
	if not link then return; end
	local buffer, answered, wrong = link.buffer .. data, {}, false;
	while #buffer >= 2 and not wrong do
		local size = byte(buffer, 1) * 256 + byte(buffer, 2);
		local asked = link.sent[link.first];
		wrong = size < 2 or size > (asked and asked.sasl and sasl_most or reply_most);
		if wrong or #buffer < 2 + size then break; end
		wrong = not take(link, sub(buffer, 3, 2 + size), answered);
		buffer = sub(buffer, 3 + size);
	end
	link.buffer = buffer;
	if answered[1] then pause = nil; end -- the connection works
	if wrong then
		module:log("error", "postern_address does not lead to a listener with protocol \"ejabberd\"");
		if link.conn then drop(link, "not its protocol"); else empty(link, "not its protocol"); end
	end
	-- Last, because a session that is woken may send its next request at once.
	for _, a in ipairs(answered) do
		if a.change then on_change(a.change); else settle(a[1], a[2]); end
	end
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
	local done, err = raw:connect(peer_socket);
	if not done then raw:close(); return nil, err; end
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
		connect_tcp(new_resolver(peer_host, tonumber(peer_port), "tcp"), listeners, nil, attempt);
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

-- Operations that change nothing, and may be sent twice.
local questions = { auth = true, isuser = true, account = true, scram = true, bearer = true };

-- ask sends a request and waits, without blocking Prosody, for the value of the answer: 1 is yes, 0
-- is no, and anything else or nil is a temporary failure. client is the address of the user's client. The second
-- result is the time of an account's last change, or postern's message of a mechanism.
local function ask(op, username, secret, client)
	-- A colon in the user name would shift the fields.
	if type(username) ~= "string" or find(username, "[:%c]") then return 0; end
	local text, extended = op .. ":" .. username .. ":" .. domain, nil;
	local sasl = op == "scram" or op == "proof" or op == "bearer";
	if op == "auth" or sasl then
		extended = (sasl and op or "login") .. ":" .. username .. ":" .. domain .. ":xmpp " .. (client or "-") .. " " .. secret;
	end
	if secret then text = text .. ":" .. secret; end
	if #(extended or text) > frame_most then return 0; end
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
		text = text, extended = extended, tries = 0, wake = wake,
		question = questions[op], account = op == "account", sasl = sasl,
	};
	request.timer = timer.add_task(patience, function () overdue(request); end);
	enqueue(request);
	pump();
	if wait then
		wait();
	else
		while not request.done do server.loop(true); end
	end
	return request.value, request.changed or request.message;
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

-- refresh asks on every connection what postern can do: that may change with its configuration.
local function refresh()
	for i = 1, pool_size do
		local link = links[i];
		if link.conn and link.extended then
			heard = time.now() - pause_most;
			send(link, { text = watch(), tries = 0, watch = true, wake = function () end });
		end
	end
	return refresh_every;
end

local function any_extended()
	for i = 1, pool_size do
		if links[i].conn and links[i].extended then return true; end
	end
	return false;
end

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

-- changing does what Prosody asks postern to change.
local function changing(op, username, do_it, ...)
	local key = op .. ":" .. username;
	own[key] = monotonic();
	local ok, err = do_it(op, username, ...);
	if not ok then own[key] = nil; end
	return ok, err;
end

function provider.set_password(username, password)
	return changing("setpass", username, answer_with, password, "The password was not changed.");
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
	return changing("removeuser", username, function (op) return answer(ask(op, username), "The account was not removed."); end);
end

-- postern cannot list accounts. These are the users that are logged in.
function provider.users() return next, prosody.hosts[host].sessions; end

-- get_account_info is asked by modules that log users in without their password, as FAST does: what
-- they issued before password_updated is not valid. postern is asked where Prosody can wait;
-- otherwise, and while it is away, its last word counts.
function provider.get_account_info(username)
	local value, changed;
	if not alone and async.ready() and any_extended() then value, changed = ask("account", username); end
	if value == 0 and not account(username).changed then -- never heard of
		return { password_updated = time.now(), enabled = false };
	elseif value == 0 or value == 3 then -- there is no such account any more, or it is disabled
		learn(username, time.now(), true);
	elseif value == 1 then
		learn(username, changed or 0, false);
	end
	local known, everyone = account(username), account("");
	changed = math.max(known.changed or 0, everyone.changed or 0);
	return { password_updated = changed > 0 and changed or nil, enabled = not known.disabled };
end

function provider.is_enabled(username) return not account(username).disabled; end

-- failed is how a login ends that is no yes: value is postern's.
local function failed(value)
	if value == 0 then
		return "failure", "not-authorized", "Unable to authorize you with the authentication credentials you've sent.";
	end
	if value == 3 then refresh(); end -- the mechanism is not offered any more
	-- This error makes clients keep the password and try again.
	return "failure", "temporary-auth-failure", unavailable;
end

-- Prosody's own PLAIN takes at most 1023 bytes and cuts the password at a NUL. X-TOKEN, the mechanism
-- of mod_auth_token's clients, has the same layout, with a token in place of the password.
local function plain(handler, message)
	local name, secret = match(message or "", "^[^%z]*%z([^%z]+)%z([^%z]+)$");
	name = name and stringprep.saslprep(name);
	name = name and stringprep.nodeprep(name);
	secret = secret and prepare(secret);
	if not name or name == "" or not secret then
		return "failure", "malformed-request", "Invalid username or password.";
	end
	handler.username = name;
	local session = handler.session;
	local value = ask("auth", name, secret, session and session.ip);
	if value == 1 then
		learn(name, 0, false); -- an account that was disabled is not any more
		return "success";
	end
	return failed(value);
end

-- bindings lists the types of channel binding with which a mechanism is offered, for postern.
local function bindings(handler, mechanism)
	local plus, names = match(mechanism, "^(SCRAM%-SHA%-%d+)") .. "-PLUS", {};
	if handler:mechanisms()[plus] and not disabled_mechanisms:contains(plus) then
		for name in pairs(handler.profile.cb) do names[#names + 1] = name; end
	end
	return names[1] and table.concat(names, ",") or "-";
end

-- scram_step passes the messages of SCRAM on: postern has the keys, and verifies the proof. handler.exchange is what
-- the last message needs of the first.
local function scram_step(handler, message)
	local session, mechanism, exchange = handler.session, handler.selected, handler.exchange;
	local ip = session and session.ip;
	if type(message) ~= "string" or message == "" or find(message, "%z") then return "failure", "malformed-request"; end
	if not exchange then
		local name = match(message, "^[^,]*,[^,]*,n=([^,]*),");
		if name and find(gsub(name, "=[23][CD]", ""), "=", 1, true) then name = nil; end
		name = name and stringprep.saslprep((gsub(gsub(name, "=2C", ","), "=3D", "=")));
		name = name and stringprep.nodeprep(name);
		if not name or name == "" then return "failure", "malformed-request", "Invalid username."; end
		handler.username = name;
		local value, reply = ask("scram", name, mechanism .. " " .. bindings(handler, mechanism) .. " " .. message, ip);
		local challenge, state = match(reply or "", "^(%S+) (%S+)$");
		if value ~= 1 or not challenge then return failed(value); end
		handler.exchange = { state = state, binding = match(message, "^p=([^,]*),") };
		return "challenge", challenge;
	end
	handler.exchange = { state = "-" }; -- it ends with this message
	local data = exchange.binding and handler.profile.cb and handler.profile.cb[exchange.binding];
	if data then
		local ok, found = pcall(data, handler);
		data = ok and found or nil;
	end
	local proof = mechanism .. " " .. (data and base64(data) or "-") .. " " .. exchange.state .. " " .. message;
	local value, signature = ask("proof", handler.username, proof, ip);
	if value ~= 1 then return failed(value); end
	learn(handler.username, 0, false);
	return "success", signature;
end

-- bearer_user returns the user that a client names in the header of OAUTHBEARER, "" if it names none, and nil if it is
-- none of this host's. XMPP clients need not say who they are: the token does.
local function bearer_user(header)
	local name = match(header, "^[ny],a=([^,]+),$");
	if not name then return match(header, "^[ny],,$") and ""; end
	if find(gsub(name, "=[23][CD]", ""), "=", 1, true) then return nil; end
	name = gsub(gsub(name, "=2C", ","), "=3D", "=");
	local user, at = match(name, "^(.*)@([^@]*)$");
	if at and stringprep.nameprep(at) ~= host then return nil; end
	name = stringprep.saslprep(user or name);
	name = name and stringprep.nodeprep(name);
	return name ~= "" and name or nil;
end

-- bearer_step takes a token by OAUTHBEARER (RFC 7628). A client is told why its token is refused, and the login
-- fails once it has heard that, whatever it says.
local function bearer_step(handler, message)
	if handler.refused then
		return "failure", "not-authorized", "The token is not valid here.";
	end
	if not message or find(message, "%z") then return "failure", "malformed-request"; end
	local header, fields = match(message, "^([^\1]*)(\1.*\1)\1$");
	local name = header and bearer_user(header);
	if not name then return "failure", header and find(header, "^[ny],a=") and "invalid-authzid" or "malformed-request"; end
	local token;
	for key, value in gmatch(fields, "%f[^\1](%a+)=([^%z\1]*)%f[\1]") do
		if key == "auth" then
			if token then return "failure", "malformed-request"; end
			token = match(value, "^[Bb][Ee][Aa][Rr][Ee][Rr] +([%w%-._~+/]+=*)$");
			if not token then return "failure", "malformed-request"; end
		end
	end
	if not token then return "failure", "malformed-request"; end
	handler.username = name ~= "" and name or nil;
	local session = handler.session;
	local value, reply = ask("bearer", name, token, session and session.ip);
	if value == 1 and name == "" then
		name = reply and stringprep.nodeprep(reply) or "";
		if name == "" then return "failure", "not-authorized", "The token names no user of this server."; end
		-- The provider may have users whose names are one to XMPP: whose token it is, postern knows.
		if name ~= reply then value, reply = ask("bearer", name, token, session and session.ip); end
	end
	if value == 1 then
		handler.username = name;
		learn(name, 0, false);
		return "success";
	elseif value == 0 then
		handler.refused = true;
		return "challenge", reply and reply ~= "" and reply or '{"status":"invalid_token"}';
	end
	return failed(value);
end

local function step(handler, message)
	local mechanism = handler.selected;
	if mechanism == "OAUTHBEARER" then return bearer_step(handler, message); end
	return (find(mechanism, "^SCRAM%-") and scram_step or plain)(handler, message);
end

local function with_steps(handler, session)
	local clean_clone = handler.clean_clone;
	handler.process, handler.session = step, session;
	function handler:clean_clone()
		local clone = clean_clone(self);
		clone.userdata = clone.userdata or self.userdata; -- Prosody 0.12 leaves out what channel bindings need
		return with_steps(clone, session);
	end
	return handler;
end

function provider.get_sasl_handler(session)
	local mechanisms = { PLAIN = true };
	if scram then
		for _, hash in ipairs { "SHA-256", "SHA-1" } do
			mechanisms["SCRAM-" .. hash], mechanisms["SCRAM-" .. hash .. "-PLUS"] = true, true; -- the latter where Prosody can
		end
	end
	-- Unlike PLAIN these are not known to Prosody as some that need encryption.
	if plain_unencrypted or session and session.secure then
		if tokens then mechanisms["X-TOKEN"] = true; end
		if bearer and knows_bearer then mechanisms["OAUTHBEARER"] = true; end
	end
	return with_steps(new_sasl(host, { mechanisms = mechanisms }), session);
end

for i = 1, pool_size do
	links[i] = { sent = {}, first = 1, last = 0, buffer = "" };
end

module:provides("auth", provider);
connect(links[1]);
local refreshing = not alone and timer.add_task(refresh_every, refresh);

-- Without this, reconnecting would keep Prosody from stopping.
module:hook_global("server-stopping", function () ended = true; end);

function module.unload()
	ended = true;
	if retry then timer.stop(retry); end
	if refreshing then timer.stop(refreshing); end
	for i = 1, pool_size do
		if links[i].conn then drop(links[i], "unloaded"); elseif links[i].attempt then empty(links[i], "unloaded"); end
	end
end
