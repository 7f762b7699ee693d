package manual

import (
	"fmt"
	"regexp"
	"strings"

	"postern/internal/config"
)

// referenceTopic is the topic of the page that goes on with the reference of the configuration. It is
// a man page of section 5, under this name.
const referenceTopic = "config.hcl"

// purposes says what each kind of block is for.
var purposes = map[string]string{
	"limit":                  "Limits on password guessing, for all domains; see [limits](limits.md).",
	"listen":                 "An address at which servers connect, and the protocol there; see [ports](ports.md).",
	"listen userdb":          "What a listener of the protocol dovecot_userdb or http answers about each user.",
	"listen nginx_mail":      "Where a listener of the protocol http sends nginx's mail proxy after a login.",
	"listen tls":             "TLS of a listener of the protocol http.",
	"backend nextcloud":      "Nextcloud, without an app; see [Nextcloud](nextcloud.md).",
	"backend jsxc":           "Nextcloud with the JSXC app.",
	"backend json":           "The JSON API of a web application: POST URL/login and URL/exists.",
	"backend http":           "Any URL that wants HTTP Basic authentication.",
	"backend auth_http":      "An endpoint made for MongooseIM's auth_http and its kin.",
	"backend users":          "A file of users, managed with `postern user`; see [own users](accounts.md).",
	"backend oidc":           "Tokens and passwords of an OpenID Connect provider; see [OpenID Connect](oidc.md).",
	"backend app_passwords":  "Secrets of the devices of accounts, managed with `postern password`; see [app passwords](app-passwords.md).",
	"backend oidc scim":      "Where the provider says whether an account exists and is enabled; see [OpenID Connect](oidc.md).",
	"domain":                 "Which backends have the users of a domain. The name is the domain, or `*` for all others.",
	"domain allow":           "Groups of which an account must be in one to log in; see [groups](groups.md).",
	"domain limit":           "Limits of this domain, where they differ from the limit block of the file.",
	"domain token jsxc":      "Time-limited tokens of the JSXC app; see [tokens](tokens.md).",
	"domain token totp":      "Single-use tokens, as for Prosody's mod_auth_token; see [tokens](tokens.md).",
	"domain cache":           "The cache of right and wrong passwords; see [the cache](caching.md).",
	"registry":               "Domains that `postern domain` registers; see [many domains](domains.md).",
	"registry cache":         "The cache of each registered domain.",
	"domain roster ejabberd": "Shared rosters of ejabberd; see [shared rosters](rosters.md).",
	"domain roster prosody":  "Shared rosters of Prosody, by mod_groups; see [shared rosters](rosters.md).",
	"audit":                  "The audit log; see [audit](audit.md).",
	"store valkey":           "A store that several machines share; see [machines](machines.md).",
	"store valkey tls":       "How connections to the store, and to its Sentinels, are protected.",
	"store valkey sentinel":  "Sentinels that say which server is the primary.",
	"metrics":                "Metrics for Prometheus; see [metrics](metrics.md).",
	"web":                    "Pages for people, in a browser; see [pages](pages.md).",
	"web tls":                "TLS of the pages, in place of a reverse proxy's.",
	"web status":             "What postern does, for administrators; see [pages](pages.md).",
	"web self_service":       "App passwords and passwords, for users; see [pages](pages.md).",
	"log":                    "The log.",
}

// reference describes every block and attribute: what the schema says of it, and the comment of the
// example configuration.
func reference() []Block {
	texts := comments(config.FullExample())
	var out []Block
	for _, block := range config.Reference() {
		title := "The file itself"
		if block.Path != "" {
			title = heading(block)
		}
		out = append(out, Block{Kind: Heading, Level: 2, Text: title})
		if purpose := purposes[block.Path]; purpose != "" {
			out = append(out, Block{Kind: Text, Text: purpose})
		}
		for _, a := range block.Attributes {
			text := fmt.Sprintf("`%s`: %s; %s; since %s. %s", a.Name, a.Type, absent(a.Default), a.Since, texts.of(block.Path, a.Name))
			out = append(out, Block{Kind: Item, Marker: "-", Text: strings.TrimSpace(text)})
		}
	}
	return out
}

// heading is a block's header with the blocks that it is in: domain NAME > token "jsxc".
func heading(block config.BlockReference) string {
	words := strings.Fields(block.Path)
	kind := ""
	if len(block.Labels) > 0 && block.Labels[0] == "kind" {
		kind, words = fmt.Sprintf(" %q", words[len(words)-1]), words[:len(words)-1]
	}
	text := words[len(words)-1] + kind
	if len(block.Labels) > 0 && block.Labels[len(block.Labels)-1] == "name" {
		text += " NAME"
	}
	if len(words) > 1 {
		text += " (in " + words[0] + ")"
	}
	return text
}

// absent says what an attribute is without its line.
func absent(value string) string {
	switch {
	case value == "":
		return "required"
	case strings.HasPrefix(value, "("):
		return "by default " + strings.Trim(value, "()")
	}
	return "default `" + value + "`"
}

// explanations are the comments of the example, by the path of a block and the name of an attribute.
type explanations struct {
	byPath map[string]string // of "path name"
	byType map[string]string // of the block's type and the name, where first explained
}

func (e explanations) of(path, name string) string {
	if text := e.byPath[path+" "+name]; text != "" {
		return text
	}
	return e.byType[typeOf(path)+" "+name]
}

// typeOf is the type of a block without its kind: "cache" of "domain cache", "token" of "domain token
// jsxc".
func typeOf(path string) string {
	words := strings.Fields(path)
	for _, kind := range []string{"backend", "token", "roster"} {
		for i, word := range words {
			if word == kind && i == len(words)-2 {
				return kind
			}
		}
	}
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// Lines of the example. An attribute or block may be commented out.
var (
	exampleBlock     = regexp.MustCompile(`^\s*(?:# ?)?(\w+)((?: "[^"]*")*) \{(.*)$`)
	exampleEnd       = regexp.MustCompile(`^\s*(?:# ?)?\s*\}\s*$`)
	exampleAttribute = regexp.MustCompile(`^\s*(?:# ?)?\s*([a-z_0-9]+)\s*= \S`)
	exampleComment   = regexp.MustCompile(`^\s*#\s*(?:# )?(.*)$`)
)

// exampleReader collects the comments of the example.
type exampleReader struct {
	attributes map[string]bool // "path name" of the schema
	blocks     map[string]bool // paths of the schema
	found      explanations
	path       []string // of the open blocks
	comment    string   // of the lines before
	used       bool     // an attribute has taken the comment
}

// comments reads what the example says of each attribute. A comment belongs to the attributes in the
// lines below it.
func comments(example string) explanations {
	r := exampleReader{attributes: map[string]bool{}, blocks: map[string]bool{},
		found: explanations{map[string]string{}, map[string]string{}}}
	for _, block := range config.Reference() {
		r.blocks[block.Path] = true
		for _, a := range block.Attributes {
			r.attributes[block.Path+" "+a.Name] = true
		}
	}
	for line := range strings.Lines(example) {
		r.line(strings.TrimRight(line, "\n"))
	}
	return r.found
}

func (r *exampleReader) line(line string) {
	at := strings.Join(r.path, " ")
	if m := exampleAttribute.FindStringSubmatch(line); m != nil && r.attributes[at+" "+m[1]] {
		r.attribute(at, m[1])
		return
	}
	if m := exampleBlock.FindStringSubmatch(line); m != nil {
		if path := r.child(at, m[1], m[2]); path != "" {
			if !strings.Contains(m[3], "}") {
				r.path = append(r.path, strings.TrimSpace(strings.TrimPrefix(path, at)))
			}
			r.used = true // by attributes that have no comment of their own
			return
		}
	}
	switch {
	case strings.TrimSpace(line) == "" && !r.used:
		r.comment = ""
	case exampleEnd.MatchString(line) && len(r.path) > 0:
		r.path = r.path[:len(r.path)-1]
	default:
		if m := exampleComment.FindStringSubmatch(line); m != nil {
			if r.used {
				r.comment, r.used = "", false
			}
			r.comment = strings.TrimSpace(r.comment + " " + strings.TrimSpace(m[1]))
		}
	}
}

// attribute notes the comment for an attribute, unless it only points to another place.
func (r *exampleReader) attribute(path, name string) {
	r.used = true
	if r.comment == "" || strings.HasPrefix(r.comment, "As ") {
		return
	}
	if key := path + " " + name; r.found.byPath[key] == "" {
		r.found.byPath[key] = r.comment
	}
	if key := typeOf(path) + " " + name; r.found.byType[key] == "" {
		r.found.byType[key] = r.comment
	}
}

// child is the path of a block in the block at a path, or "" if there is no such block.
func (r *exampleReader) child(at, word, labels string) string {
	path := strings.TrimSpace(at + " " + word)
	if r.blocks[path] {
		return path
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(labels, ` "`), `"`)
	if path += " " + first; r.blocks[path] {
		return path
	}
	return ""
}
