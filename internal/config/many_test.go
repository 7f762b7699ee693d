package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// manyDomains is a configuration with n domains.
func manyDomains(n int) []byte {
	var b strings.Builder
	b.WriteString("data_dir = \"/var/lib/postern\"\nbackend \"jsxc\" \"cloud\" {\n  url = \"https://cloud.example.org\"\n  secret = file(\"cloud.secret\")\n}\n")
	for i := range n {
		fmt.Fprintf(&b, "domain \"d%d.example.org\" { backends = [backend.jsxc.cloud] }\n", i)
	}
	return []byte(b.String())
}

// BenchmarkManyDomains parses 5,000 domains. B/domain is what stays of each.
func BenchmarkManyDomains(b *testing.B) {
	const domains = 5000
	env, src := testEnv(b), manyDomains(domains)
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := Parse("/etc/postern/test.hcl", src, env); problems.Failed() {
			b.Fatal(problems.Err())
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cfg, _ := Parse("/etc/postern/test.hcl", src, env)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/domains, "B/domain")
	runtime.KeepAlive(cfg)
}
