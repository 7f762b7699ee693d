package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/actors"
	"postern/actors/memory"
	"postern/cmd/internal/control"
)

// This file writes what commands show as text. Times are local, and nothing is cut off.

// table writes lines of columns that are separated by tabs.
func table(out io.Writer, write func(w io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	write(w)
	return w.Flush()
}

// moment is a time for people, or "never".
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

// listOr joins a list, or returns none for an empty one.
func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// writeCachedUser writes what is cached of a user.
func writeCachedUser(out io.Writer, u control.CachedUser) error {
	fmt.Fprintln(out, u.User)
	exists := u.Exists
	if u.ExistsAt != nil {
		exists += ", asked " + moment(*u.ExistsAt)
	}
	fmt.Fprintf(out, "exists: %s\naccepted passwords: %d\nrefused passwords remembered: %d\n", exists, len(u.Verifiers), u.Refused)
	if len(u.Verifiers) == 0 {
		return nil
	}
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "\nFIRST ACCEPTED\tLAST ACCEPTED\tLAST USED\tKEPT\tDOUBTS")
		for _, v := range u.Verifiers {
			var kept, doubts []string
			for _, is := range []struct {
				so   bool
				list *[]string
				word string
			}{{v.InMemory, &kept, "in memory"}, {v.OnDisk, &kept, "on disk"}, {v.Stale, &doubts, "stale"}, {v.Suspect, &doubts, "suspect"}} {
				if is.so {
					*is.list = append(*is.list, is.word)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", moment(v.First), moment(v.Verified), moment(v.Used), listOr(kept, "nowhere"), listOr(doubts, "none"))
		}
	})
}

// writeCacheStats writes the counts of the cache by domain.
func writeCacheStats(out io.Writer, s control.CacheStats) error {
	if s.StoreFailed != "" {
		fmt.Fprintf(out, "the store on disk does not work: %s\n", s.StoreFailed)
	}
	fmt.Fprintf(out, "on disk: %d bytes\n", s.DiskBytes)
	if !s.Running {
		fmt.Fprintln(out, "no daemon is running, so nothing is in memory")
	}
	names := slices.Sorted(maps.Keys(s.Memory))
	for name := range s.Disk {
		if _, there := s.Memory[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return nil
	}
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "\nDOMAIN\tUSERS ON DISK\tIN MEMORY\tFROM MEMORY\tASKED\tIN GRACE\tREFUSED\tLIMITED")
		for _, name := range names {
			m := s.Memory[name]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, s.Disk[name], m.Users, m.Hot, m.BackendAsked, m.Graces, m.Refusals+m.RefusedBefore, limitedIn(m))
		}
	})
}

// limitedIn counts the requests of a domain that a limit has kept from its backend.
func limitedIn(m memory.Stats) uint64 { return m.LimitUser + m.LimitAddress + m.LimitBudget }

// writeLimited writes what is counted of a user or an address.
func writeLimited(out io.Writer, l actors.Limited) error {
	state := "not limited"
	if l.Until != nil {
		state = "limited until " + moment(*l.Until)
		if time.Now().After(*l.Until) {
			state = "was limited until " + moment(*l.Until)
		}
	}
	_, err := fmt.Fprintf(out, "%s: %s, refused passwords: %d, pauses in a row: %d\n", l.Name, state, l.Refusals, l.Pauses)
	return err
}

// writeLimits writes all limits in force.
func writeLimits(out io.Writer, l actors.Limits) error {
	list := func(what string, watched int, limited []actors.Limited) error {
		fmt.Fprintf(out, "%s: %d limited, %d more with refused passwords\n", what, len(limited), watched)
		for _, one := range limited {
			fmt.Fprint(out, "  ")
			if err := writeLimited(out, one); err != nil {
				return err
			}
		}
		return nil
	}
	if err := list("client addresses", l.Addresses.Watched, l.Addresses.Limited); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.Backends)) {
		b := l.Backends[name]
		fmt.Fprintln(out)
		if err := list(name+", accounts", b.Users.Watched, b.Users.Limited); err != nil {
			return err
		}
		switch {
		case b.Exempt:
			fmt.Fprintln(out, "  refusal budget: none is needed, since the server does not count refusals of postern's address")
		case b.Most > 0:
			fmt.Fprintf(out, "  refusal budget: %d of %d used, %d questions not put for want of it\n", b.Refusals, b.Most, b.Withheld)
		}
		if b.Delay > 0 {
			fmt.Fprintf(out, "  the server delays each login from postern's address by %s\n", b.Delay)
		}
	}
	return nil
}

// writeDomain writes a registered domain.
func writeDomain(out io.Writer, d control.ShownDomain) error {
	secret := "none"
	switch {
	case d.Secret != "":
		secret = d.Secret
	case d.HasSecret:
		secret = "kept; --show-secrets prints it"
	}
	fmt.Fprintln(out, d.Domain)
	return table(out, func(w io.Writer) {
		for _, line := range [][2]string{{"backend", d.Kind}, {"url", d.URL}, {"domain at the backend", d.AuthDomain}, {"secret", secret},
			{"contact", d.Contact}, {"registered", d.First}, {"changed", d.Latest}} {
			if line[1] != "" {
				fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1])
			}
		}
	})
}

// writeRoster writes what the XMPP server has been sent about a user.
func writeRoster(out io.Writer, r control.RosterUser) error {
	name, applied := "none was sent", "no"
	if r.FullName != nil {
		name = *r.FullName
	}
	if r.Complete {
		applied = "yes"
	}
	fmt.Fprintf(out, "%s\nfull name: %s\ngroups at the last login: %s\nlast answer carried out: %s\n", r.User, name, listOr(r.Own, "none"), applied)
	if len(r.Doubtful) > 0 {
		fmt.Fprintf(out, "groups being changed: %s\n", strings.Join(r.Doubtful, ", "))
	}
	if len(r.Groups) == 0 {
		return nil
	}
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "\nGROUP\tMEMBERS")
		for _, group := range slices.Sorted(maps.Keys(r.Groups)) {
			fmt.Fprintf(w, "%s\t%d\n", group, r.Groups[group])
		}
	})
}

// writePlan writes what a run would change in the XMPP server.
func writePlan(out io.Writer, p control.RosterPlan) error {
	if p.File != "" && len(p.Steps) > 0 {
		fmt.Fprintf(out, "# %s: - is removed and + added, and then Prosody reads it again\n", p.File)
	}
	for _, step := range p.Steps {
		fmt.Fprintln(out, step)
	}
	if len(p.Unasked) > 0 {
		fmt.Fprintf(out, "# no answer from the backend about: %s\n", strings.Join(p.Unasked, ", "))
	}
	if p.File != "" && len(p.Steps) == 0 {
		_, err := fmt.Fprintf(out, "# %s would not change for %d users\n", p.File, p.Users)
		return err
	}
	what := "commands"
	if p.File != "" {
		what = "lines of the file"
	}
	_, err := fmt.Fprintf(out, "# %d %s for %d users\n", len(p.Steps), what, p.Users)
	return err
}
