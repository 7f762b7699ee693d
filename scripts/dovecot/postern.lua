-- Dovecot asks postern about passwords and users, at a listener "http". For Dovecot 2.3 and 2.4.
--
-- /etc/dovecot/postern.lua has the address and the secret of the listener:
--
--   return { url = "http://127.0.0.1:23670", secret = "..." }
--
-- For `doveadm -A` it has domains = { "example.org" }, too: whose users are listed. By default they are those of the
-- listener's default domain.
--
-- Dovecot's user must be able to read it, and no others: owner root, group dovecot, mode 0640.

local settings_file = "/etc/dovecot/postern.lua"

-- What postern says of a user that may log in, and of one that may not, is by its own deadline of 8 s; this
-- one is behind it.
local seconds = 9

local settings, client

function script_init()
	settings = dofile(settings_file)
	local made
	made, client = pcall(dovecot.http.client, { request_timeout = seconds .. "s", request_max_attempts = 1 })
	if not made then -- Dovecot 2.3 has other names, and milliseconds
		client = dovecot.http.client({ timeout = seconds * 1000, max_attempts = 1 })
	end
	return 0
end

function script_deinit()
end

local function coded(text)
	return (text:gsub("[^%w]", function(byte) return string.format("%%%02X", byte:byte()) end))
end

-- post returns the status of an answer, and its body if that is 200.
local function post(path, fields)
	local form = {}
	for name, value in pairs(fields) do
		form[#form + 1] = name .. "=" .. coded(tostring(value))
	end
	local request = client:request({ url = settings.url .. path, method = "POST" })
	request:add_header("X-Postern-Secret", settings.secret)
	request:set_payload(table.concat(form, "&"))
	local response = request:submit()
	return response:status(), response:status() == 200 and response:payload() or ""
end

-- ask returns the status of an answer, and the lines NAME=VALUE of its body.
local function ask(path, fields)
	local status, body = post(path, fields)
	local answer = {}
	for name, value in body:gmatch("([^=\n]+)=([^\n]*)\n") do
		answer[name] = value
	end
	return status, answer
end

-- service is what Dovecot 2.4 calls the protocol.
local function service(request)
	return request.service or request.protocol or ""
end

-- Any status but 200 and these is a temporary failure: a wrong secret, too, says nothing about a user.
function auth_password_verify(request, password)
	local status, answer = ask("/dovecot/passdb", {
		user = request.user, password = password, service = service(request), rip = request.rip or request.remote_ip or "", -- Dovecot 2.4 has the longer name
	})
	if status == 200 and answer.user then
		return dovecot.auth.PASSDB_RESULT_OK, { user = answer.user }
	elseif status == 401 then
		return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, "refused"
	end
	return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "postern answers " .. status
end

function auth_userdb_lookup(request)
	local status, answer = ask("/dovecot/userdb", { user = request.user, service = service(request) })
	if status == 200 and answer.user then
		return dovecot.auth.USERDB_RESULT_OK, answer
	elseif status == 404 then
		return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
	end
	return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, "postern answers " .. status
end

-- A list that lacks users would be taken for all of them, so a failure is an error.
function auth_userdb_iterate()
	local users = {}
	for _, domain in ipairs(settings.domains or { "" }) do
		local status, body = post("/dovecot/users", { domain = domain })
		if status ~= 200 then
			error("postern cannot list the users of " .. domain .. ": it answers " .. status)
		end
		for user in body:gmatch("[^\n]+") do
			users[#users + 1] = user
		end
	end
	return users
end
