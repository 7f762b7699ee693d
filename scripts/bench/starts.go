package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// manyDomains is the number of domain blocks of a large configuration.
const manyDomains = 5000

// domainsInFile compares the start with many domain blocks in the file to that with one.
func (b *bench) domainsInFile(t *table) error {
	var ready, cpu [2][]float64 // in seconds, with one domain and with many
	var each []float64
	for range max(b.rounds, 3) {
		var resident [2]int64
		for i, n := range []int{1, manyDomains} {
			c, took, err := b.withDomains(n)
			if err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond) // what the start has left over is given back soon after it
			resident[i] = c.resident()
			ready[i], cpu[i] = append(ready[i], took.Seconds()), append(cpu[i], c.cpu().Seconds())
			c.stop()
		}
		each = append(each, float64(resident[1]-resident[0])/manyDomains)
	}
	fmt.Printf("%d domains in the file: %.2f s of processor time until ready, %.2f with one\n", manyDomains, median(cpu[1]), median(cpu[0]))
	what := fmt.Sprintf("%d domains in the file: ", manyDomains)
	t.atMost(what+"start until ready", median(ready[1]), " s", 0.2)
	t.atMost(what+"resident memory of each", median(each), " bytes", 4000)
	return nil
}

// withDomains starts a server with n domain blocks in its configuration.
func (b *bench) withDomains(n int) (c *child, took time.Duration, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, 0, err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "data_dir = %q\nlisten \"generic\" { address = %q }\nbackend \"jsxc\" \"app\" {\n  url = \"http://127.0.0.1:9\"\n  secret = %q\n}\n",
		b.file("domains"), address, jsxcSecret)
	for i := range n {
		fmt.Fprintf(&text, "domain \"d%d.example.org\" { backends = [backend.jsxc.app] }\n", i)
	}
	config := b.file("domains.hcl")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	c, err = startPostern(b.binary, config, address)
	return c, time.Since(begun), err
}

// pipes measures the first answer of a `postern pipe`: where no daemon runs, so that it starts a broker and
// the store is made, and beside one.
func (b *bench) pipes(t *table) error {
	var alone, cpu, version []float64
	for i := range max(b.rounds, 5) {
		dir := b.file(fmt.Sprint("pipe", i))
		config := dir + ".hcl"
		text := fmt.Sprintf("data_dir = %q\nbackend \"users\" \"local\" {}\ndomain \"pipe.bench\" { backends = [backend.users.local] }\n", dir)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		begun := time.Now()
		if err := exec.Command(b.binary, "--version").Run(); err != nil {
			return err
		}
		version = append(version, time.Since(begun).Seconds()*1000)
		p, err := b.pipe(config, "pipe.bench")
		if err != nil {
			return err
		}
		broker := new(child)
		owner, _ := os.ReadFile(filepath.Join(dir, "owner.lock"))
		if broker.pid, err = strconv.Atoi(strings.TrimSpace(string(owner))); err != nil {
			return errors.Join(fmt.Errorf("the broker of a pipe: %w", err), p.end())
		}
		used := broker.cpu()
		if err := p.end(); err != nil {
			return err
		}
		alone = append(alone, p.took.Seconds()*1000)
		cpu = append(cpu, (used+p.cmd.ProcessState.UserTime()+p.cmd.ProcessState.SystemTime()).Seconds()*1000)
	}
	fmt.Printf("first answer of a pipe without a daemon: %.0f ms of processor time; `postern --version` takes %.0f ms\n", median(cpu), median(version))
	t.atMost("first answer of a pipe without a daemon", median(alone), " ms", 45)

	var beside, resident []float64
	for range max(b.rounds, 5) {
		p, err := b.pipe(b.file("own")+".hcl", "users.bench")
		if err != nil {
			return err
		}
		beside = append(beside, p.took.Seconds()*1000)
		resident = append(resident, float64((&child{pid: p.cmd.Process.Pid}).resident())/1e6)
		if err := p.end(); err != nil {
			return err
		}
	}
	t.atMost("first answer of a pipe beside a daemon", median(beside), " ms", 11)
	t.atMost("resident memory of a pipe", median(resident), " MB", 5.5)
	return nil
}

// onePipe is a `postern pipe` that has given its first answer.
type onePipe struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	took time.Duration // from its start to the answer
}

// pipe starts a pipe and asks for a user that does not exist.
func (b *bench) pipe(config, domain string) (*onePipe, error) {
	p := &onePipe{cmd: exec.Command(b.binary, "pipe", "--protocol", "generic", "--config", config)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(p.in, "isuser:stranger:%s\n", domain)
	if err == nil {
		var line string
		line, err = bufio.NewReader(out).ReadString('\n')
		if p.took = time.Since(begun); err == nil && line != "0\n" {
			err = fmt.Errorf("a pipe answers %q", line)
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

// end ends the input of the pipe, and waits for its end.
func (p *onePipe) end() error {
	_ = p.in.Close()
	return p.cmd.Wait()
}
