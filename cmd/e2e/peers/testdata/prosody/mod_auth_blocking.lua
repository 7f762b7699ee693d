-- The least that speaks socket mode: one blocking connection per question, as modules for the
-- line protocol do. The very first question opens and drops a connection more.
local socket = require "socket";
local new_sasl = require "util.sasl".new;

local host, port = module.host, module:get_option_number("blocking_port", 23663);
local first = true;

local function dial()
	local conn = assert(socket.tcp());
	conn:settimeout(5);
	if not conn:connect("127.0.0.1", port) then return nil; end
	return conn;
end

local function ask(...)
	if first then
		first = false;
		local extra = dial();
		if extra then extra:close(); end
	end
	local conn = dial();
	if not conn then return nil, "no connection"; end
	conn:send(table.concat({ ... }, ":") .. "\n");
	local line = conn:receive("*l");
	conn:close();
	if line == "1" then return true; end
	return nil, line == "0" and "no" or "no answer";
end

local provider = {};
function provider.test_password(user, password) return ask("auth", user, host, password); end
function provider.user_exists(user) return ask("isuser", user, host); end
function provider.set_password(user, password) return ask("setpass", user, host, password); end
function provider.create_user() return nil, "not possible"; end
function provider.get_sasl_handler()
	return new_sasl(host, {
		plain_test = function (_, user, password) return provider.test_password(user, password), true; end;
	});
end
module:provides("auth", provider);
