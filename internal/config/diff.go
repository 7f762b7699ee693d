package config

import (
	"reflect"
	"strings"
)

// Changes are the differences between two configurations.
type Changes struct {
	Listeners Delta[Listener]
	Backends  Delta[Backend]
	Domains   Delta[Domain]

	Registry     bool
	DataDir      bool
	Store        bool
	DrainTimeout bool
	Metrics      bool
	Web          bool
	Log          bool
	Audit        bool
}

// Delta has the blocks of one type that were added, removed or changed.
type Delta[T any] struct {
	Added   []T
	Removed []T
	Changed []Change[T]
}

// Change is a block before and after.
type Change[T any] struct{ Old, New T }

// Empty reports whether nothing changed.
func (d Delta[T]) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Empty reports whether the configurations are equal.
func (c Changes) Empty() bool {
	return c.Listeners.Empty() && c.Backends.Empty() && c.Domains.Empty() && !c.Registry && !c.DataDir && !c.Store && !c.DrainTimeout && !c.Metrics && !c.Web && !c.Log && !c.Audit
}

// Diff compares two validated configurations. Backends and domains are identified by their names,
// listeners by their addresses: another address needs another socket, and a listener that is
// renamed keeps its own. The order of the blocks has no effect.
func Diff(old, now *Config) Changes {
	return Changes{
		Registry: !reflect.DeepEqual(old.Registry, now.Registry),
		DataDir:  old.DataDir != now.DataDir, DrainTimeout: old.DrainTimeout != now.DrainTimeout, Log: old.Log != now.Log, Audit: old.Audit != now.Audit,
		Store:     !reflect.DeepEqual(old.Store, now.Store),
		Metrics:   old.Metrics != now.Metrics,
		Web:       !reflect.DeepEqual(old.Web, now.Web),
		Listeners: diff(old.Listeners, now.Listeners, socketOf),
		Backends:  diff(old.Backends, now.Backends, func(b Backend) BackendRef { return b.BackendRef }),
		Domains:   diff(old.Domains, now.Domains, func(d Domain) string { return d.Name }),
	}
}

// diff compares two lists of blocks by their keys. DeepEqual follows the pointer in a Secret and
// so compares its text.
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

// socketOf returns the key of a listener's socket. Port 0 is a different port for each listener,
// so there the name identifies it.
func socketOf(l Listener) [3]string {
	if l.Network == "tcp" && strings.HasSuffix(l.Address, ":0") {
		return [3]string{l.Network, l.Address, l.Name}
	}
	return [3]string{l.Network, l.Address}
}
