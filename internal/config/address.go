package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxSocketPath is the longest path of a Unix socket (Linux: sockaddr_un has 108 bytes with the
// NUL).
const maxSocketPath = 107

const writeAddress = `write host:port, as in "127.0.0.1:23662", "unix:/path" or "systemd:NAME"`

// address splits an address into the arguments of net.Listen, or "systemd" and the name of
// sockets that systemd passes. Relative socket paths start at dataDir.
func (p *parser) address(v value, at hcl.Range, dataDir string) (network, address string, ok bool) {
	text := v.AsString()
	if name, passed := strings.CutPrefix(text, "systemd:"); passed {
		if !socketName(name) {
			p.complain(at, "address "+shown(v)+" names no socket of systemd",
				`write "systemd:NAME" with the FileDescriptorName= of the socket unit, or the unit's own name`)
			return "", "", false
		}
		return "systemd", name, true
	}
	if path, isUnix := strings.CutPrefix(text, "unix:"); isUnix {
		path = p.resolve(dataDir, path)
		switch {
		case path == "":
			p.complain(at, "the address names no path", `write "unix:/path"`)
		case len(path) > maxSocketPath:
			p.complain(at, "the path of a Unix socket has at most "+strconv.Itoa(maxSocketPath)+" bytes",
				"choose a shorter one; a relative path starts at data_dir")
		default:
			return "unix", filepath.Clean(path), true
		}
		return "", "", false
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		p.complain(at, "address "+shown(v)+" is not host:port", writeAddress)
		return "", "", false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || !plainHost(host) {
		p.complain(at, "address "+shown(v)+" has no usable host or port", writeAddress+"; ports are numbers from 0 to 65535")
		return "", "", false
	}
	return "tcp", net.JoinHostPort(host, strconv.FormatUint(number, 10)), true
}

// socketName reports whether name is a valid FileDescriptorName= of systemd.
func socketName(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == ':'
	})
}

// plainHost reports whether host can be bound: empty for all addresses, an IP address, or a name.
func plainHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	return plainWord(host)
}

// plainWord reports whether word has only ASCII letters, digits, '-', '_' and '.'.
func plainWord(word string) bool {
	return !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}

// loopback reports whether host is this machine itself.
func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
