-- Asks a program what its standard input says, line by line, through the library, with the options
-- and in the way of mod_auth_external, and prints what it would take for the answer: it starts the
-- program for the first question, reads once, and does not start a program again that ended badly.
local lpty = require "lpty";
local pty = lpty.new({ throw_errors = false, no_local_echo = true, use_path = false });
io.stdout:setvbuf("line");

local function ask(text)
	if not pty:hasproc() then
		local status, code = pty:exitstatus();
		if status and (status ~= "exit" or code ~= 0) then return nil, status .. " " .. code; end
		local ok, err = pty:startproc(arg[1]);
		if not ok then return nil, err; end
	end
	pty:send(text .. "\n");
	return pty:read(5);
end

for line in io.lines() do
	if line == "running" then
		print(pty:hasproc() and "running" or table.concat({ pty:exitstatus() }, " "));
	else
		local answer, err = ask(line);
		print(answer and (answer:gsub("[\r\n]", "+")) or "no answer: " .. tostring(err));
	end
end
