-- Asks a program what its standard input says, line by line, through the library and with the
-- options that mod_auth_external uses, and prints each answer.
local lpty = require "lpty";
local pty = lpty.new({ throw_errors = false, no_local_echo = true, use_path = false });
assert(pty:startproc(arg[1]));
io.stdout:setvbuf("line");
for line in io.lines() do
	if line == "running" then
		print(pty:hasproc() and "running" or table.concat({ pty:exitstatus() }, " "));
	else
		pty:send(line .. "\n");
		local answer, err = pty:read(5);
		-- The library switches the echo off in the child: the first question may come back.
		if answer == line .. "\r\n" then answer, err = pty:read(5); end
		print(answer and (answer:gsub("[\r\n]", "+")) or "no answer: " .. tostring(err));
	end
end
