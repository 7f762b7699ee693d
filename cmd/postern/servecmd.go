package main

import (
	"context"

	"github.com/spf13/cobra"

	"postern/cmd/internal/daemon"
	"postern/internal/doctor"
)

func newServe(a *app) *cobra.Command {
	var o daemon.Options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker on the listeners of the configuration",
		Long: `Runs in the foreground until SIGTERM or SIGINT, and then answers what is in flight before
it ends. SIGHUP reopens the log file and reads the configuration again, as ` + "`postern reload`" + `
does: what did not change keeps running, and if anything is not valid, the old configuration
stays in force. SIGUSR1 logs the tree of actors with their queues, restarts and the requests in
flight.

Under systemd it reports when it is ready, reloads and stops, and feeds the watchdog as long as
its actors work. It serves the sockets that systemd passes: those that a listener names with
address = "systemd:NAME", those at a listener's own address, and those whose FileDescriptorName
is the name of a listener or a protocol.

When it is restarted, the next process goes on with the listening sockets and with what was in
memory: no client is refused, and no password has to be asked about again. systemd keeps both
meanwhile. Without a service manager, --takeover starts the next process beside the running one,
which answers what is in flight, hands over to it and ends. Both must belong to one user, or one
of them to root.`,
		Example: `  postern serve --config /etc/postern/config.hcl
  postern serve --embedded --data-dir ./run
  postern serve --takeover`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Flags, o.Log = a.Flags, a.Err
			if a.Embedded {
				o.Listening = a.printDemo
			}
			o.Doctor = func(ctx context.Context) []doctor.Finding {
				findings, err := a.findings(ctx, doctor.KnownUser{}, "")
				if err != nil { // there would be no daemon
					return []doctor.Finding{{Hop: "config", Check: "file", Status: doctor.Failure, Text: err.Error()}}
				}
				return findings
			}
			return daemon.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.TakeOver, "takeover", false, "take over from the daemon that runs, with its sockets and its memory; without one, just start")
	// `postern pipe` starts the broker of its copies with these.
	cmd.Flags().BoolVar(&o.ForPipes, "for-relays", false, "")
	cmd.Flags().StringVar(&o.PipeDir, "relay-dir", "", "")
	cmd.Flags().IntVar(&o.LockFD, "lock-fd", 0, "")
	for _, name := range []string{"for-relays", "relay-dir", "lock-fd"} {
		_ = cmd.Flags().MarkHidden(name)
	}
	return cmd
}
