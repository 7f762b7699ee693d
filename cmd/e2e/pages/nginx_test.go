package pages

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"postern/cmd/e2e/harness"
)

// nginxConf takes a folder, a port and the manual's block.
const nginxConf = `
daemon off;
worker_processes 1;
error_log %[1]s/error.log info;
pid %[1]s/pid;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server {
    listen 127.0.0.1:%[2]d;
%[3]s  }
}
`

// TestWebStatusBehindNginx: a page is reached through a reverse proxy by its own name only.
func TestWebStatusBehindNginx(t *testing.T) {
	t.Parallel()
	s := newSite(t, listener+harness.UsersBase+statusBlock(""))
	dir, port := t.TempDir(), harness.FreePort(t)
	block := harness.PageBlocks(t, "pages", "TestWebStatusBehindNginx", "127.0.0.1:23671", s.page("status"))[0]
	file := filepath.Join(dir, "nginx.conf")
	harness.WriteFile(t, file, fmt.Sprintf(nginxConf, dir, port, block))
	cmd := exec.Command(harness.Machine().Program(t, "nginx"), "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(harness.ReadText(filepath.Join(dir, "error.log")))
		}
	})
	ask := func(name string) int {
		status := 0
		harness.WaitFor(t, "an answer of nginx", func() bool {
			r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/status.json", port), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = name
			withToken(r)
			client := http.Client{Timeout: harness.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
			answer, err := client.Do(r)
			if err == nil {
				_ = answer.Body.Close()
				status = answer.StatusCode
			}
			return err == nil
		})
		return status
	}
	if got := ask(host); got != http.StatusOK {
		t.Errorf("by its name: %d", got)
	}
	if got := ask("evil.example"); got != http.StatusMisdirectedRequest {
		t.Errorf("by another name: %d", got)
	}
}
