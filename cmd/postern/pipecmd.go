package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/cmd/internal/pipe"
)

func newPipe(a *app) *cobra.Command {
	var o pipe.Options
	cmd := &cobra.Command{
		Use:   "pipe --protocol NAME",
		Short: "Answer one peer on standard input and output",
		Long: `For servers that start the broker themselves, such as ejabberd's extauth_program. Every copy
relays to the daemon that owns the data directory, and is small. If another user runs that, the
daemon needs a listen "relay" that names the user of the copies; they find its socket. Where no
daemon runs, the first copy starts a broker for all of them, which ends after the last; if it is
killed, another copy starts the next. Open questions wait for it.

Under inetd standard input may be a connection (nowait), or a socket that listens (wait): then
all connections are answered, and the process ends when there has been none for a minute.
Requests that set passwords, register or remove accounts are refused there, since any program
may have connected; everywhere else they are taken.

It ends with status 0 when standard input ends, after the last answer. A broken configuration
does not end it: the fault is logged, and the answer to every question is a temporary failure (not
known right now) until the configuration is corrected.`,
		Example: `  postern pipe --protocol ejabberd --config /etc/postern/config.hcl
  postern pipe --protocol ejabberd --socket /run/postern/relay.sock`,
		// Faults of the command line are handled like faults of the configuration.
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.misused(cmd, o.Protocol, fmt.Errorf("unknown argument %q", args[0]))
			}
			if err := pipe.CheckProtocol(o.Protocol); err != nil {
				return a.misused(cmd, o.Protocol, err)
			}
			o.Flags = a.Flags
			return pipe.Run(a.Stdio, o)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return a.misused(cmd, o.Protocol, err) })
	cmd.Flags().StringVar(&o.Protocol, "protocol", "", "`NAME` of the protocol: ejabberd, generic, saslauthd, tcp_table or socketmap")
	cmd.Flags().StringVar(&o.Socket, "socket", "", "relay to the daemon at `PATH` without reading a configuration, and wait for it if it is not there")
	return cmd
}

// misused handles a faulty command line: a person gets an error, a server gets temporary failures.
func (a *app) misused(cmd *cobra.Command, protocol string, err error) error {
	err = fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
	if pipe.ByHand(a.In) {
		return err
	}
	return pipe.Fallback(a.Stdio, protocol, err, func() error { return err })
}
