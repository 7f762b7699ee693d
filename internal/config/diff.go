package config

import "reflect"

// Changes are what one configuration changes in another.
type Changes struct {
	Listeners Delta[Listener]
	Backends  Delta[Backend]
	Domains   Delta[Domain]

	Registry     bool
	DataDir      bool
	DrainTimeout bool
	Metrics      bool
	Log          bool
}

// Delta is what came, what went, and what is another than before.
type Delta[T any] struct {
	Added   []T
	Removed []T
	Changed []Change[T]
}

// Change is a block before and after.
type Change[T any] struct{ Old, New T }

// Empty reports whether nothing changed.
func (d Delta[T]) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Empty reports whether the two configurations are one.
func (c Changes) Empty() bool {
	return c.Listeners.Empty() && c.Backends.Empty() && c.Domains.Empty() && !c.Registry && !c.DataDir && !c.DrainTimeout && !c.Metrics && !c.Log
}

// Diff compares two validated configurations. Backends and domains are known by their names.
// Listeners are known by name and address: one at another address is a new one, since it needs
// a socket of its own, and one that only has another name has kept its socket. The order of the
// blocks does not count.
func Diff(old, now *Config) Changes {
	c := Changes{
		Registry: !reflect.DeepEqual(old.Registry, now.Registry),
		DataDir:  old.DataDir != now.DataDir, DrainTimeout: old.DrainTimeout != now.DrainTimeout, Log: old.Log != now.Log,
		Metrics:  old.Metrics != now.Metrics,
		Backends: diff(old.Backends, now.Backends, func(b Backend) BackendRef { return b.BackendRef }),
		Domains:  diff(old.Domains, now.Domains, func(d Domain) string { return d.Name }),
	}
	c.Listeners = renamed(diff(old.Listeners, now.Listeners, func(l Listener) [3]string {
		return [3]string{l.Network, l.Address, l.Name}
	}))
	return c
}

// diff compares two lists of blocks, each known by its key. Secrets are compared by their text:
// DeepEqual follows the pointer behind which it stands.
func diff[T any, K comparable](old, now []T, key func(T) K) (d Delta[T]) {
	was := make(map[K]T, len(old))
	for _, o := range old {
		was[key(o)] = o
	}
	for _, n := range now {
		o, known := was[key(n)]
		switch {
		case !known:
			d.Added = append(d.Added, n)
		case !reflect.DeepEqual(o, n):
			d.Changed = append(d.Changed, Change[T]{o, n})
		}
		delete(was, key(n))
	}
	for _, o := range old {
		if _, left := was[key(o)]; left {
			d.Removed = append(d.Removed, o)
		}
	}
	return d
}

// renamed finds the listeners of which only the name, and perhaps parameters, are others.
func renamed(d Delta[Listener]) Delta[Listener] {
	out := Delta[Listener]{Changed: d.Changed}
	for _, n := range d.Added {
		i := sameSocket(d.Removed, n)
		if i < 0 {
			out.Added = append(out.Added, n)
			continue
		}
		out.Changed = append(out.Changed, Change[Listener]{d.Removed[i], n})
		d.Removed = append(append([]Listener(nil), d.Removed[:i]...), d.Removed[i+1:]...)
	}
	out.Removed = d.Removed
	return out
}

// sameSocket finds the listener on n's address. Port 0 is another port each time.
func sameSocket(list []Listener, n Listener) int {
	for i, l := range list {
		if l.Network == n.Network && l.Address == n.Address && !anyPort(l) {
			return i
		}
	}
	return -1
}

func anyPort(l Listener) bool {
	return l.Network == "tcp" && len(l.Address) > 2 && l.Address[len(l.Address)-2:] == ":0"
}
