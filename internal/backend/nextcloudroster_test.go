package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// rosterOf asks for a roster and reads it as that of the JSXC app.
func rosterOf(t *testing.T, n *nextcloud, user string) map[string]contact {
	t.Helper()
	r := put(t, n, auth.OpRoster, user, "")
	var document struct {
		Result string
		Data   struct{ SharedRoster map[string]contact }
	}
	if r.Class != Accepted || json.Unmarshal(r.Body, &document) != nil || document.Result != "success" {
		t.Fatalf("%v, %v, %s", r.Class, r.Err, r.Body)
	}
	if checked := classifyJSXC(Query{Op: auth.OpRoster}, response{status: 200, body: r.Body}); checked.Class != Accepted {
		t.Errorf("not what the JSXC app would send: %s", r.Body)
	}
	if again := put(t, n, auth.OpRoster, user, ""); string(again.Body) != string(r.Body) {
		t.Errorf("the same groups give\n%s and\n%s", r.Body, again.Body)
	}
	return document.Data.SharedRoster
}

func TestNextcloudRoster(t *testing.T) {
	for _, admin := range []string{"boss", "lead"} {
		s, n := cloud(t, asAdmin(admin))
		if admin == "lead" {
			s.Change(func(state *nextcloudtest.State) {
				state.NoDetails = true
				state.Users[1].Groups = []string{"chess"}
			})
		}
		got := fmt.Sprint(rosterOf(t, n, "joe"))
		want := map[string]string{
			"boss": "map[Ann:{ [chess]} joe:{Joe [chess staff]}]",
			"lead": "map[Ann:{ [chess]} joe:{ [chess]}]", // which may not see the details
		}[admin]
		if got != want {
			t.Errorf("%s: %s, want %s", admin, got, want)
		}
	}
	_, n := cloud(t, asAdmin("boss"))
	if r := put(t, n, auth.OpRoster, "plain", ""); string(r.Body) != `{"data":{"sharedRoster":{}},"result":"success"}` {
		t.Errorf("without groups: %s, %v", r.Body, r.Err)
	}
	if r := put(t, n, auth.OpRoster, "nobody", ""); r.Class != Refused || r.Body != nil {
		t.Errorf("nobody: %+v", r)
	}
	_, n = cloud(t, asAdmin("plain"))
	if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != Misconfigured {
		t.Errorf("without rights: %v, %v", r.Class, r.Err)
	}
}

// crowd starts a server with a group of size members, some of them deleted accounts.
func crowd(t *testing.T, group string, size, gone int, o NextcloudOptions) (*nextcloudtest.Server, *nextcloud) {
	s, n := cloud(t, o)
	s.Change(func(state *nextcloudtest.State) {
		state.Users[1].Groups = []string{group}
		for i := range size - 1 {
			state.Users = append(state.Users, &nextcloudtest.User{ID: fmt.Sprint(i), Name: fmt.Sprint("No ", i),
				Groups: []string{group}, Gone: i < gone})
		}
	})
	return s, n
}

// TestNextcloudPages collects all of a large group, whatever its name, with accounts named by
// digits, which PHP turns into numbers and lists.
func TestNextcloudPages(t *testing.T) {
	for _, c := range []struct {
		group             string
		size, gone, pages int
	}{
		{"staff", 2, 0, 2}, {"staff", rosterPage, 0, 2}, {"staff", 2*rosterPage + 50, 0, 4}, {"staff", 3 * rosterPage, rosterPage / 4, 4},
		{"staff", 3 * rosterPage, rosterPage - 1, 4}, {"a b", 3, 0, 2}, {"50% + a/b & ü?#", 3, 0, 2}, {"2024", 3, 0, 2}, {"..", 0, 0, 0},
	} {
		s, n := crowd(t, c.group, max(c.size, 1), c.gone, asAdmin("boss"))
		s.Requests()
		r := put(t, n, auth.OpRoster, "joe", "")
		pages := 0
		for _, request := range s.Requests() {
			if strings.Contains(request, "/users/details") {
				pages++
			}
		}
		people := rosterOf(t, n, "joe")
		if r.Class != Accepted || len(people) != c.size-c.gone || pages != c.pages {
			t.Errorf("%+v: %d people in %d pages, %v", c, len(people), pages, r.Err)
		}
		if c.size > 2 && people[fmt.Sprint(c.size-2)].Name != fmt.Sprint("No ", c.size-2) {
			t.Errorf("%+v: the last is %+v", c, people[fmt.Sprint(c.size-2)])
		}
	}
}

// TestNextcloudRosterBounds: an incomplete roster is not used.
func TestNextcloudRosterBounds(t *testing.T) {
	o := asAdmin("boss")
	o.MaxMembers = 3
	for size, want := range map[int]Class{3: Accepted, 4: Misconfigured} {
		_, n := crowd(t, "staff", size, 0, o)
		if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != want {
			t.Errorf("%d members: %v, %v", size, r.Class, r.Err)
		}
	}
	o.MaxMembers, o.MaxResponse = 1000, 2000
	_, n := crowd(t, "staff", 50, 0, o)
	if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != Outage || !says(r, "max_response") {
		t.Errorf("a long page: %v, %v", r.Class, r.Err)
	}
	// A server without paging does not cause endless requests.
	s, n := crowd(t, "staff", rosterPage, 0, asAdmin("boss"))
	asked := 0
	s.Change(func(state *nextcloudtest.State) {
		state.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
			query := r.URL.Query()
			query.Del("limit")
			query.Del("offset")
			r.URL.RawQuery = query.Encode()
			asked++
			return asked > 100
		}
	})
	if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != Accepted || asked > 10 {
		t.Errorf("without pages: %v, %v after %d questions", r.Class, r.Err, asked)
	}
}

// TestNextcloudHidden: the members of a hidden group are not requested and do not count. The error
// for a roster that is too large names the group.
func TestNextcloudHidden(t *testing.T) {
	o := asAdmin("boss")
	o.MaxMembers = 3
	s, n := crowd(t, "everybody\u200b", 500, 0, o)
	s.Change(func(state *nextcloudtest.State) {
		joe := state.Users[1]
		joe.Groups = append(joe.Groups, "chess")
		state.Users = append(state.Users, &nextcloudtest.User{ID: "jane", Groups: []string{"chess", "everybody\u200b"}})
	})
	s.Requests()
	people := rosterOf(t, n, "joe")
	for _, id := range []string{"joe", "jane"} {
		if got := fmt.Sprint(people[id].Groups); got != "[chess]" {
			t.Errorf("%s is in %s", id, got)
		}
	}
	if _, listed := people["7"]; listed {
		t.Errorf("members of the hidden group are listed: %v", people)
	}
	for _, request := range s.Requests() {
		if strings.Contains(request, "everybody") {
			t.Errorf("asked for the hidden group: %s", request)
		}
	}
	_, n = crowd(t, "every body", 4, 0, o)
	if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != Misconfigured || !says(r, "max_members") || !says(r, `"every body"`) {
		t.Errorf("too large: %v, %v", r.Class, r.Err)
	}
}

// TestNextcloudGarbledRoster: an invalid list is not taken for an empty one, which would remove the
// user from every group; nor is one without the user.
func TestNextcloudGarbledRoster(t *testing.T) {
	for _, c := range []struct{ path, data string }{
		{"/groups", `{"groups":null}`}, {"/groups", `{"groups":""}`}, {"/groups", `{}`}, {"/groups", `{"groups":[null]}`},
		{"/users/details", `{"users":null}`}, {"/users/details", `{}`}, {"/users/details", `{"users":[]}`},
		{"/users/details", `{"users":{"jane":{"displayname":"Jane"}}}`}, {"/users", `{"users":["jane"]}`},
		{"/users", `{"users":null}`}, {"/users", `{"users":7}`}, {"/users", `{}`},
	} {
		s, n := cloud(t, asAdmin("lead"))
		s.Change(func(state *nextcloudtest.State) {
			state.NoDetails = c.path == "/users"
			state.Users[1].Groups = []string{"chess"}
			state.Instead = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, c.path) {
					return false
				}
				canned(http.StatusOK, envelope("200", `"OK"`, c.data))(w, r)
				return true
			}
		})
		if r := put(t, n, auth.OpRoster, "joe", ""); r.Class != Outage {
			t.Errorf("%s answers %s: %v, %v, %s", c.path, c.data, r.Class, r.Err, r.Body)
		}
	}
}
