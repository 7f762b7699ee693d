package valkeystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// # Sentinel and Cluster
//
// A server that is cut off does not know that another has taken over. So each of the Sentinels, or of the cluster's
// nodes, is asked all the time where the server is (a guide), and the server is where a majority of them
// says. Another takes over by the word of a majority only, of which at least one is in every other majority. The
// time of the oldest answer that counts is part of the proof for Term: a process that is cut off together with a
// server that was replaced stops believing it in time.

// guide asks one Sentinel, or node of the cluster.
type guide struct {
	address string
	said    atomic.Pointer[saying]
}

// saying is an answer of a guide.
type saying struct {
	at   string        // the server's address
	sent time.Duration // when it was asked, since the store was opened
	err  error         // instead
}

// guide starts asking.
func (s *Store) guide() {
	slot := slotOf(s.options.Prefix)
	for _, address := range s.options.Addresses {
		g := &guide{address: address}
		s.guides = append(s.guides, g)
		s.running.Go(func() { s.follow(g, slot) })
	}
}

// follow asks a guide again and again.
func (s *Store) follow(g *guide, slot int) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var client valkey.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for {
		said := saying{sent: time.Since(s.begun)}
		if client == nil {
			o := s.clientOptions(g.address)
			o.DisableCache, o.ConnWriteTimeout = true, beatWait
			if s.options.Sentinel != "" {
				o.Username, o.Password = s.options.SentinelUsername, s.options.SentinelPassword.Reveal()
			}
			if client, said.err = dialClient(o); said.err != nil {
				client = nil
			}
		}
		if client != nil {
			said.at, said.err = s.whereBy(client, g.address, slot)
			if _, answered := valkey.IsValkeyErr(said.err); said.err != nil && !answered {
				client.Close()
				client = nil
			}
		}
		if was := g.said.Swap(&said); was == nil || was.at != said.at {
			select {
			case s.kick <- struct{}{}:
			default:
			}
		}
		select {
		case <-s.context.Done():
			return
		case <-tick.C:
		}
	}
}

// whereBy asks a guide where the server is.
func (s *Store) whereBy(c valkey.Client, guide string, slot int) (string, error) {
	ctx, cancel := context.WithTimeout(s.context, beatWait)
	defer cancel()
	if s.options.Sentinel == "" {
		reply, err := c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
		if err != nil {
			return "", err
		}
		return slotServer(reply, guide, slot)
	}
	at, err := c.Do(ctx, c.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME").Args(s.options.Sentinel).Build()).AsStrSlice()
	if valkey.IsValkeyNil(err) || err == nil && len(at) != 2 {
		return "", fmt.Errorf("it knows no primary %q", s.options.Sentinel)
	}
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(at[0], at[1]), nil
}

// slotServer finds the primary of a slot in the reply to CLUSTER SLOTS of a node.
func slotServer(reply []valkey.ValkeyMessage, node string, slot int) (string, error) {
	for i := range reply {
		part, err := reply[i].ToArray()
		if err != nil || len(part) < 3 {
			continue
		}
		first, err1 := part[0].AsInt64()
		last, err2 := part[1].AsInt64()
		server, err3 := part[2].ToArray()
		if err := errors.Join(err1, err2, err3); err != nil || len(server) < 2 || int64(slot) < first || int64(slot) > last {
			continue
		}
		host, _ := server[0].ToString()
		port, err := server[1].AsInt64()
		if err != nil {
			return "", err
		}
		if host == "" || host == "?" { // the node itself, which does not know its own address
			host, _, _ = net.SplitHostPort(node)
		}
		return net.JoinHostPort(host, strconv.FormatInt(port, 10)), nil
	}
	return "", fmt.Errorf("no node has slot %d, which has the keys", slot)
}

// primary returns where the server is, and when that was true.
func (s *Store) primary() (at string, known time.Duration, err error) {
	if !s.options.guided() {
		return s.options.Addresses[0], time.Since(s.begun), nil
	}
	return agreed(s.guides, time.Since(s.begun))
}

// agreed returns what a majority of the guides says, and when the oldest of these answers was asked for, at a time
// since the store was opened.
func agreed(guides []*guide, now time.Duration) (at string, known time.Duration, err error) {
	votes := make(map[string][]time.Duration)
	var errs []error
	for _, g := range guides {
		said := g.said.Load()
		switch {
		case said == nil:
			errs = append(errs, fmt.Errorf("%s: not asked yet", g.address))
		case said.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", g.address, said.err))
		case now-said.sent >= staleAfter:
			errs = append(errs, fmt.Errorf("%s does not answer", g.address))
		default:
			votes[said.at] = append(votes[said.at], said.sent)
		}
	}
	most := len(guides)/2 + 1
	for at, sent := range votes {
		if len(sent) >= most {
			slices.SortFunc(sent, func(a, b time.Duration) int { return cmp.Compare(b, a) })
			return at, sent[most-1], nil
		}
	}
	for at, sent := range votes {
		errs = append(errs, fmt.Errorf("%d say %s", len(sent), at))
	}
	return "", 0, fmt.Errorf("no majority of %d says where the primary is: %w", len(guides), errors.Join(errs...))
}

// slots is the number of slots of a cluster.
const slots = 16384

// slotOf returns the slot of a cluster that has the keys with a prefix, which is that of its hash tag.
func slotOf(prefix string) int {
	tag := prefix
	if _, after, ok := strings.Cut(prefix, "{"); ok {
		if inside, _, ok := strings.Cut(after, "}"); ok && inside != "" {
			tag = inside
		}
	}
	var crc uint16 // CRC-16/XMODEM
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}
