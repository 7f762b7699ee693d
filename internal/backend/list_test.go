package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/internal/auth"
)

// TestNextcloudUsers: the pages of a list are joined, and accounts of other domains left out.
func TestNextcloudUsers(t *testing.T) {
	all := []string{"alice", "bob@dom.example", "eve@other.example"}
	for i := range 600 {
		all = append(all, fmt.Sprint("user", i))
	}
	status := 200
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		if name, password, _ := r.BasicAuth(); r.URL.Path != "/ocs/v2.php/cloud/users" || name != "admin" || password != "pw" {
			t.Errorf("asked %s as %s", r.URL, name)
		}
		page, _ := json.Marshal(all[min(offset, len(all)):min(offset+limit, len(all))])
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"ocs":{"meta":{"statuscode":%d},"data":{"users":%s}}}`, status, page)
	})
	b, err := NewNextcloud(NextcloudOptions{HTTPOptions: HTTPOptions{URL: server.URL}, AdminUser: "admin", AdminPassword: auth.NewSecret("pw")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	names, err := b.(Lister).Users(t.Context(), "dom.example")
	if err != nil || len(names) != 602 || !slices.Contains(names, "bob") || slices.Contains(names, "eve") {
		t.Errorf("%d users, %v", len(names), err)
	}
	status = 403
	if names, err := b.(Lister).Users(t.Context(), "dom.example"); err == nil || names != nil {
		t.Errorf("%q, %v", names, err)
	}
	plain, _ := NewNextcloud(NextcloudOptions{HTTPOptions: HTTPOptions{URL: server.URL}})
	defer plain.Close()
	if _, err := plain.(Lister).Users(t.Context(), "dom.example"); err == nil || !strings.Contains(err.Error(), "service account") {
		t.Errorf("without a service account: %v", err)
	}
}

// TestUsersUsers lists those of a domain.
func TestUsersUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	hash := "$2a$04$" + strings.Repeat("x", 53)
	text := "joe@dom.example:" + hash + "\nann@other.example:" + hash + "\neve@dom.example:" + hash + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := NewUsers(UsersOptions{Path: path, Cost: 4, Fold: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	names, err := b.(Lister).Users(t.Context(), "dom.example")
	if err != nil || !slices.Equal(names, []string{"eve", "joe"}) {
		t.Errorf("%q, %v", names, err)
	}
}
