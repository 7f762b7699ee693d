package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// said is an answer as a peer understands it.
type said uint8

const (
	saidYes   said = iota
	saidNo         // of a generic peer also a temporary failure: its protocol has one word for both
	saidLater      // temporary failure
	saidCut        // the connection ended before an answer
)

// front is how a peer of a protocol asks in a storm.
type front struct {
	name     string
	deadline time.Duration // within which postern answers, by default
	blurred  bool          // "no" is also the word for a temporary failure
	conns    int
	dial     func() (io.ReadWriteCloser, error)
	greet    func(r *bufio.Reader, w io.Writer) error
	frame    func(b []byte, id int, l *login) []byte
	read     func(r *bufio.Reader) (id int, s said, err error) // id 0: answers are in the order of the requests
}

// login is one request of a storm.
type login struct {
	user, domain, password string
	wrong                  bool // the password is not the right one
	due                    time.Time
	then                   func(l *login, s said, at time.Time) // called once for each time it was sent
}

func socketFront(name, network, address string, deadline time.Duration) *front {
	f := &front{name: name, deadline: deadline, conns: 128, dial: func() (io.ReadWriteCloser, error) { return net.Dial(network, address) }}
	switch name {
	case "generic":
		f.blurred = true
		f.frame = func(b []byte, _ int, l *login) []byte {
			return append(b, genericLogin(l.user, l.domain, l.password)...)
		}
		f.read = readGeneric
	case "dovecot":
		f.greet = greetDovecot
		f.frame = func(b []byte, id int, l *login) []byte { return dovecotLogin(b, id-1, l.user+"@"+l.domain, l.password) }
		f.read = readDovecot
	default:
		f.frame, f.read = frameEjabberd, readEjabberd
	}
	return f
}

// errOdd is an answer that is none, or one too many.
var errOdd = errors.New("an odd answer")

func readGeneric(r *bufio.Reader) (int, said, error) {
	line, err := readLine(r)
	switch {
	case err != nil:
		return 0, 0, err
	case string(line) == "1\n":
		return 0, saidYes, nil
	case string(line) == "0\n":
		return 0, saidNo, nil
	}
	return 0, 0, fmt.Errorf("%w %q", errOdd, line)
}

func frameEjabberd(b []byte, _ int, l *login) []byte {
	text := "auth:" + l.user + ":" + l.domain + ":" + l.password
	return append(append(b, byte(len(text)>>8), byte(len(text))), text...)
}

func readEjabberd(r *bufio.Reader) (int, said, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, err
	}
	switch string(b[:]) {
	case "\x00\x02\x00\x01":
		return 0, saidYes, nil
	case "\x00\x02\x00\x00":
		return 0, saidNo, nil
	case "\x00\x02\x00\x02":
		return 0, saidLater, nil
	}
	return 0, 0, fmt.Errorf("%w %x", errOdd, b)
}

func readDovecot(r *bufio.Reader) (int, said, error) {
	line, err := readLine(r)
	if err != nil {
		return 0, 0, err
	}
	words := strings.Split(strings.TrimSuffix(string(line), "\n"), "\t")
	if len(words) > 1 {
		id, err := strconv.Atoi(words[1])
		switch {
		case err != nil:
		case words[0] == "OK":
			return id, saidYes, nil
		case words[0] == "FAIL" && slices.ContainsFunc(words, func(w string) bool { return w == "temp" || w == "code=temp_fail" }):
			return id, saidLater, nil
		case words[0] == "FAIL":
			return id, saidNo, nil
		}
	}
	return 0, 0, fmt.Errorf("%w %q", errOdd, line)
}

// line is one connection of a peer, which is opened again when it ends. Requests are written as they
// come, whether or not the ones before are answered.
type line struct {
	front  *front
	failed func(error) // an answer that is none

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []*login // to be written
	closed  bool
	conn    *lineConn
}

// lineConn is the life of one connection.
type lineConn struct {
	io.ReadWriteCloser
	in    *bufio.Reader
	mu    sync.Mutex
	next  int
	order []int
	open  map[int]*login
	ended bool
}

// openLines opens the connections of a front.
func openLines(f *front, failed func(error)) (list []*line, err error) {
	for range f.conns {
		l := &line{front: f, failed: failed}
		l.wake = sync.NewCond(&l.mu)
		if l.conn, err = l.connect(); err != nil {
			closeLines(list)
			return nil, err
		}
		go l.write()
		list = append(list, l)
	}
	return list, nil
}

func closeLines(list []*line) {
	for _, l := range list {
		l.mu.Lock()
		l.closed = true
		if l.conn != nil {
			_ = l.conn.Close()
		}
		l.mu.Unlock()
		l.wake.Broadcast()
	}
}

// send has a login written as soon as the connection takes it.
func (l *line) send(one *login) {
	l.mu.Lock()
	l.waiting = append(l.waiting, one)
	l.mu.Unlock()
	l.wake.Broadcast()
}

// connect opens the connection; while nothing listens it tries again, as a peer does.
func (l *line) connect() (*lineConn, error) {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(2 * time.Millisecond) {
		raw, err := l.front.dial()
		if err == nil {
			c := &lineConn{ReadWriteCloser: raw, in: bufio.NewReaderSize(raw, 4096), open: make(map[int]*login)}
			if l.front.greet != nil {
				err = l.front.greet(c.in, raw)
			}
			if err == nil {
				go l.answers(c)
				return c, nil
			}
			_ = raw.Close()
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: %w", l.front.name, err)
		}
	}
}

// take waits for logins to write.
func (l *line) take() []*login {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) == 0 && !l.closed {
		l.wake.Wait()
	}
	list := l.waiting
	l.waiting = nil
	if l.closed {
		return nil
	}
	return list
}

func (l *line) write() {
	for {
		list := l.take()
		if list == nil {
			return
		}
		for _, one := range list {
			if !l.ask(one) {
				one.then(one, saidCut, time.Now())
			}
		}
	}
}

// ask writes one login; false: it could not be.
func (l *line) ask(one *login) bool {
	c := l.conn
	if c.over() {
		fresh, err := l.connect()
		if err != nil {
			l.failed(err)
			return false
		}
		l.mu.Lock()
		l.conn = fresh
		l.mu.Unlock()
		c = fresh
	}
	c.mu.Lock()
	if c.ended { // its open logins have been told so
		c.mu.Unlock()
		return false
	}
	c.next++
	c.order, c.open[c.next] = append(c.order, c.next), one
	text := l.front.frame(nil, c.next, one)
	c.mu.Unlock()
	if _, err := c.Write(text); err != nil {
		_ = c.Close() // the reader notices, and ends what is open
	}
	return true
}

func (c *lineConn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// answers reads the answers of a connection until it ends.
func (l *line) answers(c *lineConn) {
	for {
		id, s, err := l.front.read(c.in)
		at := time.Now()
		var one *login
		c.mu.Lock()
		if err == nil {
			if id == 0 && len(c.order) > 0 {
				id, c.order = c.order[0], c.order[1:]
			}
			if one = c.open[id]; one == nil {
				err = fmt.Errorf("%w: nothing was asked", errOdd)
			}
			delete(c.open, id)
		}
		c.ended = err != nil
		c.mu.Unlock()
		if err != nil {
			l.lost(c, err, at)
			return
		}
		one.then(one, s, at)
	}
}

// lost ends what is open on a connection that has ended.
func (l *line) lost(c *lineConn, err error, at time.Time) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if errors.Is(err, errOdd) && !closed {
		l.failed(fmt.Errorf("%s: %w", l.front.name, err))
	}
	_ = c.Close()
	for _, one := range c.open {
		one.then(one, saidCut, at)
	}
}

// arrive sends the logins at a rate, each at its time, spread over the lines.
func arrive(lines []*line, logins []*login, rate float64) {
	begun := time.Now()
	for i, one := range logins {
		one.due = begun.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(one.due); wait > 0 {
			time.Sleep(wait)
		}
		lines[i%len(lines)].send(one)
	}
}

// tally is what became of the logins of one load. Each is counted once.
type tally struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	begun  time.Time
	front  *front
	yes    int // within the deadline
	no     int // to a wrong password
	later  int // temporary failures; of a blurred front also "no" to a right password
	wrong  int
	late   int             // yes after the deadline
	cut    int             // never answered
	again  int             // sent again after the connection had ended
	taken  []time.Duration // until a yes
	after  []time.Duration // since begun, of each yes
	refuse []time.Duration // until a temporary failure
	errs   []error
}

func newTally(f *front) *tally { return &tally{front: f, begun: time.Now()} }

// slack is what an answer may be late by: it is on its way, and the machine is shared.
const slack = 250 * time.Millisecond

// note counts an answer that is the last one of a login.
func (t *tally) note(l *login, s said, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	took := at.Sub(l.due)
	switch {
	case s == saidCut:
		t.cut++
	case s == saidYes && l.wrong, s == saidNo && !l.wrong && !t.front.blurred:
		t.wrong++
	case s == saidYes && took > t.front.deadline+slack:
		t.late++
	case s == saidYes:
		t.yes++
		t.taken, t.after = append(t.taken, took), append(t.after, at.Sub(t.begun))
	case s == saidNo && l.wrong:
		t.no++
	default:
		t.later++
		t.refuse = append(t.refuse, took)
	}
	t.wg.Done()
}

// repeat counts a login that is sent again.
func (t *tally) repeat() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again++
}

func (t *tally) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

// seconds counts the yes of each second from the first one on.
func (t *tally) seconds() (each []int) {
	if len(t.after) == 0 {
		return nil
	}
	after := slices.Sorted(slices.Values(t.after))
	for _, at := range after {
		for second := int((at - after[0]) / time.Second); len(each) <= second; {
			each = append(each, 0)
		}
		each[len(each)-1]++
	}
	return each
}

// lowest is the yes count of the worst of the full seconds; of all of them if there is none.
func (t *tally) lowest() int {
	each := t.seconds()
	if len(each) < 2 {
		return t.yes
	}
	return slices.Min(each[:len(each)-1])
}

// p99 is the 99th percentile of the time until a yes.
func (t *tally) p99() time.Duration {
	_, p99 := percentiles(slices.Clone(t.taken))
	return p99
}

// print writes a row of figures.
func (t *tally) print(what string) {
	p50, p99 := percentiles(slices.Clone(t.taken))
	_, refused := percentiles(slices.Clone(t.refuse))
	later := "later"
	if t.front.blurred {
		later = "later or no"
	}
	fmt.Printf("  %-44s yes %d, %s %d (p99 %v), no to a wrong password %d, wrong %d, late %d, cut %d, sent again %d; yes p50 %v p99 %v\n",
		what, t.yes, later, t.later, refused.Round(time.Millisecond), t.no, t.wrong, t.late, t.cut, t.again,
		p50.Round(100*time.Microsecond), p99.Round(100*time.Microsecond))
	if each := t.seconds(); len(each) > 2 {
		fmt.Printf("  %44s yes per second: %s\n", "", strings.Trim(fmt.Sprint(each), "[]"))
	}
}

// run drives a load: the logins arrive at a rate, and each is answered, or sent again if try says so.
func (t *tally) run(lines []*line, logins []*login, rate float64, try func(l *login, s said) (wait time.Duration, again bool)) error {
	t.wg.Add(len(logins))
	on := make(map[*login]*line, len(logins))
	for i, one := range logins {
		on[one] = lines[i%len(lines)]
		one.then = func(l *login, s said, at time.Time) {
			if wait, again := try(l, s); again {
				t.repeat()
				time.AfterFunc(wait, func() { on[l].send(l) })
				return
			}
			t.note(l, s, at)
		}
	}
	t.begun = time.Now()
	arrive(lines, logins, rate)
	t.wg.Wait()
	return errors.Join(t.errs...)
}

// once sends nothing again.
func once(*login, said) (time.Duration, bool) { return 0, false }
