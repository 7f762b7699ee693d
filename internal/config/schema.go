package config

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// spec is the vocabulary of one kind of block. A test compares this table with
// config.hcl.example in both directions, so a word added here must be explained there.
type spec struct {
	path           string   // the types of its parents, its own, and its kind: "domain token jsxc"
	labels         []string // meanings of the labels
	attrs, secrets []string // attributes; a line that sets one of secrets is never quoted
	blocks         []string // types of the blocks in it
}

// httpAttrs are common to the backends with an HTTP API.
var httpAttrs = []string{
	"url", "ca_file", "user_agent", "connect_timeout", "timeout", "max_response",
	"slots", "min_slots", "queue", "breaker_failures", "breaker_cooldown", "refusal_budget", "refusal_window",
	"fold_case", "authority",
}

// limitAttrs are common to the limit blocks of the file and of domains.
var limitAttrs = []string{
	"enabled", "user_refusals", "address_refusals", "window", "first_pause", "longest_pause", "exempt",
}

// rosterAttrs are common to the kinds of rosters.
var rosterAttrs = []string{"include", "exclude", "foreign", "max_members", "window", "min_interval", "timeout"}

// cacheAttrs are common to the caches of domains in the file and of registered ones.
var cacheAttrs = []string{
	"storage", "query_ttl", "verify_ttl", "outage_ttl", "refused_ttl", "exists_ttl",
	"absent_ttl", "bcrypt_cost", "secrets", "hot_entries",
}

// specs is the vocabulary of the configuration.
var specs = []spec{
	{
		path:   "",
		attrs:  []string{"data_dir", "drain_timeout"},
		blocks: []string{"listen", "backend", "domain", "registry", "limit", "store", "metrics", "web", "log", "audit"},
	},
	{path: "limit", attrs: limitAttrs},
	{
		path: "listen", labels: []string{"name"},
		attrs: []string{
			"protocol", "address", "mode", "owner", "group", "users", "default_domain", "deadline",
			"idle_timeout", "frame_timeout", "write_timeout", "max_frame", "pipeline",
			"max_connections", "binary_answers", "recipient_delimiter", "changes", "map", "fixed_domain",
			"trusted_proxies", "proxy_protocol", "realm",
		},
		secrets: []string{"secret"},
		blocks:  []string{"userdb", "nginx_mail", "tls"},
	},
	{path: "listen nginx_mail", attrs: []string{"imap", "pop3", "smtp"}},
	{path: "listen tls", attrs: []string{"certificate", "key", "client_ca"}},
	{path: "listen userdb", attrs: []string{"uid", "gid", "home"}},
	{
		path: "backend nextcloud", labels: []string{"kind", "name"},
		attrs:   slices.Concat(httpAttrs, []string{"admin_user", "accept_other_id", "max_delay", "max_members"}),
		secrets: []string{"admin_password", "proxy"},
	},
	{
		path: "backend jsxc", labels: []string{"kind", "name"},
		attrs: append([]string{"accept_other_id"}, httpAttrs...), secrets: []string{"secret", "proxy"},
	},
	{path: "backend json", labels: []string{"kind", "name"}, attrs: httpAttrs, secrets: []string{"proxy"}},
	{
		path: "backend http", labels: []string{"kind", "name"},
		attrs: slices.Concat(httpAttrs, []string{"method", "realm", "deny_body", "true_at"}), secrets: []string{"proxy"},
	},
	{
		path: "backend auth_http", labels: []string{"kind", "name"},
		attrs: slices.Concat(httpAttrs, []string{"service_user"}), secrets: []string{"service_password", "proxy"},
	},
	{
		path: "backend users", labels: []string{"kind", "name"},
		attrs: []string{"path", "bcrypt_cost", "slots", "min_slots", "queue", "fold_case", "authority"},
	},
	{
		path: "backend app_passwords", labels: []string{"kind", "name"},
		attrs: []string{"unconfirmed_ttl"}, secrets: []string{"key"},
	},
	{
		path: "backend oidc", labels: []string{"kind", "name"},
		attrs: slices.Concat([]string{
			"issuer", "accept", "audience", "clients", "client_id", "username_claim", "username_domain", "groups_claim", "required_scope", "algorithms", "leeway",
		}, httpAttrs[1:]), // but url
		secrets: []string{"client_secret", "proxy"}, blocks: []string{"scim"},
	},
	{path: "backend oidc scim", attrs: []string{"url", "scope"}, secrets: []string{"token"}},
	{
		path: "domain", labels: []string{"name"},
		attrs:  []string{"backends", "auth_domain", "login", "change_admins", "local", "unescape_jid", "require_app_password", "scram"},
		blocks: []string{"allow", "token", "cache", "limit", "roster"},
	},
	{path: "domain allow", attrs: []string{"groups", "services"}},
	{path: "domain limit", attrs: limitAttrs},
	{
		path: "domain token jsxc", labels: []string{"kind"},
		attrs: []string{"enabled", "ttl"}, secrets: []string{"secrets"},
	},
	{
		path: "domain token totp", labels: []string{"kind"},
		attrs: []string{"nonce_digits"}, secrets: []string{"seed", "secrets"},
	},
	{path: "domain cache", attrs: cacheAttrs, secrets: []string{"key"}},
	{path: "registry", attrs: []string{"idle", "max_live"}, secrets: []string{"proxy"}, blocks: []string{"cache"}},
	{path: "registry cache", attrs: cacheAttrs, secrets: []string{"key"}},
	{
		path: "domain roster ejabberd", labels: []string{"kind"},
		attrs: append([]string{"ejabberdctl", "api", "cut_sessions"}, rosterAttrs...), secrets: []string{"token"},
	},
	{
		path: "domain roster prosody", labels: []string{"kind"},
		attrs: append([]string{"groups_file", "reload"}, rosterAttrs...),
	},
	{
		path: "store valkey", labels: []string{"kind"},
		attrs: []string{"addresses", "username", "cluster", "prefix", "isolated"}, secrets: []string{"password"},
		blocks: []string{"tls", "sentinel"},
	},
	{path: "store valkey tls", attrs: []string{"ca_file", "certificate", "key", "server_name"}},
	{path: "store valkey sentinel", attrs: []string{"master", "username"}, secrets: []string{"password"}},
	{path: "metrics", attrs: []string{"address"}},
	{path: "web", attrs: []string{"url", "privacy", "trusted_proxies"}, blocks: []string{"tls", "status", "self_service"}},
	{path: "web tls", attrs: []string{"certificate", "key", "client_ca"}},
	{
		path: "web status", attrs: []string{"address", "url", "mode", "owner", "group", "default_domain", "accounts", "groups"},
		secrets: []string{"token"},
	},
	{path: "web self_service", attrs: []string{"address", "url", "mode", "owner", "group", "default_domain", "imap", "smtp"}},
	{path: "log", attrs: []string{"level", "format", "file"}},
	{path: "audit", attrs: []string{"file", "syslog"}},
}

// knows reports whether a block of this kind may hold the attribute.
func (s *spec) knows(attr string) bool {
	return slices.Contains(s.attrs, attr) || slices.Contains(s.secrets, attr)
}

// words lists the attributes and blocks of a block.
func (s *spec) words() []string { return slices.Concat(s.attrs, s.secrets, s.blocks) }

// findSpec returns the vocabulary of a path, or nil.
func findSpec(path string) *spec {
	for i := range specs {
		if specs[i].path == path {
			return &specs[i]
		}
	}
	return nil
}

// kindsOf lists the kinds that the first label of a block can name.
func kindsOf(path string) []string {
	var kinds []string
	for i := range specs {
		if kind, ok := strings.CutPrefix(specs[i].path, path+" "); ok && !strings.Contains(kind, " ") {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// publicWord reports whether a line that sets the attribute may be quoted: the table has the
// word, and in no block as a secret. "secrets" is a number in a cache block, but a list of keys
// in a token block, so it may not.
func publicWord(attr string) bool {
	known := false
	for i := range specs {
		if slices.Contains(specs[i].secrets, attr) {
			return false
		}
		known = known || slices.Contains(specs[i].attrs, attr)
	}
	return known
}

// blockWord reports whether word is the type of some block.
func blockWord(word string) bool {
	for i := range specs {
		if slices.Contains(specs[i].blocks, word) {
			return true
		}
	}
	return false
}

// nearest returns the candidate that word is most likely a misspelling of, or "".
func nearest(word string, candidates []string) string {
	if len(word) > 64 { // longer than any candidate
		return ""
	}
	best, least := "", 3 // characters inserted, deleted or changed
	for _, c := range candidates {
		if d := levenshtein.Distance(word, c, nil); d < least && d < max(len(c), 2) {
			best, least = c, d
		}
	}
	return best
}

// didYouMean suggests the nearest candidate, or lists all of them.
func didYouMean(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return "did you mean " + near + "?"
	}
	return "known here: " + strings.Join(candidates, ", ")
}
