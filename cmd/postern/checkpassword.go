package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/cmd/internal/pipe"
)

func newCheckpassword(a *app) *cobra.Command {
	var o pipe.Options
	cmd := &cobra.Command{
		Use:   "checkpassword PROGRAM [ARGUMENT...]",
		Short: "Check one password for Dovecot or qmail, and become a program",
		Long: `DJB's interface: reads a name, a password and a time stamp from descriptor 3, each ended by a
NUL, and asks the running daemon. If the password is right, it becomes PROGRAM, with the account in
the variable USER. The client's address is taken from TCPREMOTEIP and the service from SERVICE.

The exit status is 1 for a wrong password, 111 for a temporary failure (the answer is not known
right now, or no daemon is running), and 2 if it was not started as above.

Dovecot 2.3 and older can ask postern so for IMAP and POP3. Dovecot's user must reach the daemon:
name it in users of a listen "relay".`,
		Example: `  postern checkpassword --socket /run/postern/relay.sock /bin/true 3< name-and-password
  postern checkpassword /usr/lib/dovecot/checkpassword-reply`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			o.Flags = a.Flags
			status, err := pipe.CheckMisused, fmt.Errorf("there is no program to become")
			if len(args) > 0 {
				status, err = pipe.Checkpassword(a.Stdio, o, args)
			}
			if err != nil {
				fmt.Fprintln(a.Err, "postern checkpassword:", err)
			}
			return exitStatus(status)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		fmt.Fprintln(a.Err, "postern checkpassword:", err)
		return exitStatus(pipe.CheckMisused)
	})
	cmd.Flags().SetInterspersed(false) // the program's own flags are its own
	cmd.Flags().StringVar(&o.Socket, "socket", "", "ask the daemon at `PATH` without reading a configuration")
	return cmd
}
