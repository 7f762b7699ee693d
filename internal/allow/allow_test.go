package allow

import (
	"strings"
	"testing"

	"postern/internal/auth"
)

// some are blocks for one service, for two, and for all.
var some = New([]Block{
	{Groups: []string{"mail", "board"}, Services: []string{"imap"}},
	{Groups: []string{"chat"}, Services: []string{"xmpp", "sip"}},
	{Groups: []string{"staff"}},
})

// only are blocks for some services.
var only = New([]Block{{Groups: []string{"mail"}, Services: []string{"imap"}}, {Groups: []string{"chat"}, Services: []string{"xmpp"}}})

// TestJudge: one of the blocks for the service is enough, and what is not known is no refusal.
func TestJudge(t *testing.T) {
	all := []string{"mail", "board", "chat", "staff"}
	for _, c := range []struct {
		name    string
		rules   *Rules
		groups  auth.Groups
		service string
		want    Standing
	}{
		{"no rules", nil, "", "imap", In},
		{"in a group for the service", some, auth.GroupsOf(all, []string{"board"}), "imap", In},
		{"in a group for another", some, auth.GroupsOf(all, []string{"board"}), "xmpp", Out},
		{"in a group for all", some, auth.GroupsOf(all, []string{"staff"}), "xmpp", In},
		{"in none", some, auth.GroupsOf(all, []string{"other"}), "imap", Out},
		{"in none, a service without a block of its own", some, auth.GroupsOf(all, []string{"mail", "chat"}), "sieve", Out},
		{"nothing known", some, "", "imap", Unknown},
		{"one known, and in it", some, auth.GroupsOf([]string{"staff"}, []string{"staff"}), "imap", In},
		{"one known, and not in it", some, auth.GroupsOf([]string{"staff"}, nil), "imap", Unknown},
		{"all known that matter", some, auth.GroupsOf([]string{"staff", "chat"}, nil), "xmpp", Out},
		{"a service without a block", only, "", "sieve", In},
		{"no service, in all", only, auth.GroupsOf(all, []string{"mail", "chat"}), "", In},
		{"no service, in one", only, auth.GroupsOf(all, []string{"mail"}), "", Out},
		{"no service, one not known", only, auth.GroupsOf([]string{"mail"}, []string{"mail"}), "", Unknown},
		{"no service, one not known, one is out", only, auth.GroupsOf([]string{"mail"}, nil), "", Out},
		{"no service, in that for all", some, auth.GroupsOf(all, []string{"staff"}), "", In},
		{"no service, not in that for all", some, auth.GroupsOf(all, []string{"mail", "chat"}), "", Out},
	} {
		if got := c.rules.Judge(c.groups, c.service); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestDecide: only a yes is judged, and the reason names the groups.
func TestDecide(t *testing.T) {
	yes := auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot, Account: "joe", Groups: auth.GroupsOf(only.Groups(), []string{"mail"})}
	if got := only.Decide(yes, "imap"); got.Verdict != auth.Allow || got.Account != "joe" {
		t.Errorf("%+v", got)
	}
	if got := only.Decide(yes, "xmpp"); got.Verdict != auth.Deny || got.Source != auth.SourceGroups || !strings.Contains(got.Reason, "in none of the groups chat (for xmpp)") {
		t.Errorf("%+v", got)
	}
	if got := only.Decide(yes, ""); got.Verdict != auth.Deny || !strings.Contains(got.Reason, "names no service") || !strings.Contains(got.Reason, "chat, mail") {
		t.Errorf("%+v", got)
	}
	yes.Groups = ""
	if got := only.Decide(yes, "imap"); got.Verdict != auth.Unavailable || !strings.Contains(got.Reason, "not known now") {
		t.Errorf("%+v", got)
	}
	for _, other := range []auth.Answer{{Verdict: auth.Deny, Reason: "wrong"}, {Source: auth.SourceDeadline}, {Verdict: auth.Unsupported}} {
		if got := only.Decide(other, "imap"); got.Verdict != other.Verdict || got.Reason != other.Reason || got.Source != other.Source {
			t.Errorf("%+v becomes %+v", other, got)
		}
	}
	if got := (*Rules)(nil).Decide(yes, "imap"); got.Verdict != auth.Allow {
		t.Errorf("without rules: %+v", got)
	}
	if New(nil) != nil || (*Rules)(nil).Groups() != nil {
		t.Error("no blocks are rules")
	}
}
