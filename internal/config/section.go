package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern/internal/auth"
)

// section is a block that has been checked against the schema.
type section struct {
	p      *parser
	spec   *spec
	labels []string
	body   *hclsyntax.Body
	header hcl.Range // of the block; zero for the file
	label  hcl.Range // of the last label
	absent bool      // the file does not have the block
}

// section opens a block in a parent, or returns nil if it has reported an error.
func (p *parser) section(parent string, b *hclsyntax.Block) *section {
	path := strings.TrimPrefix(parent+" "+b.Type, " ")
	spec := findSpec(path)
	var kinds []string
	if spec == nil { // the labels are the same for all kinds
		kinds = kindsOf(path)
		spec = findSpec(path + " " + kinds[0])
	}
	if len(b.Labels) != len(spec.labels) {
		header := b.Type
		for _, label := range spec.labels {
			header += fmt.Sprintf(" %q", strings.ToUpper(label))
		}
		p.complain(b.DefRange(), fmt.Sprintf("a %s block has %d label(s), not %d", b.Type, len(spec.labels), len(b.Labels)),
			"write "+header+" { ... }")
		return nil
	}
	if kinds != nil {
		path += " " + b.Labels[0]
		if findSpec(path) == nil {
			p.complain(b.LabelRanges[0], fmt.Sprintf("%s kind %q is unknown", b.Type, clip(b.Labels[0])),
				didYouMean(b.Labels[0], kinds))
			return nil
		}
	}
	return p.open(path, b.Body, b)
}

// open returns the section of a body, and reports the words that are not in its spec.
func (p *parser) open(path string, body *hclsyntax.Body, b *hclsyntax.Block) *section {
	s := &section{p: p, spec: findSpec(path), body: body}
	if b != nil {
		s.labels, s.header, s.label = b.Labels, b.DefRange(), b.DefRange()
		if n := len(b.LabelRanges); n > 0 {
			s.label = b.LabelRanges[n-1]
		}
	}
	for name, attr := range body.Attributes {
		switch {
		case s.spec.knows(name):
		case slices.Contains(s.spec.blocks, name):
			p.complain(attr.NameRange, name+" is a block", "leave out the equals sign: "+name+" { ... }")
		default:
			p.complain(attr.NameRange, "unknown attribute "+clip(name), didYouMean(name, s.spec.words()))
		}
	}
	for _, child := range body.Blocks {
		switch {
		case slices.Contains(s.spec.blocks, child.Type):
		case s.spec.knows(child.Type):
			p.complain(child.TypeRange, child.Type+" is an attribute", "write it as "+child.Type+" = ...")
		default:
			p.complain(child.TypeRange, "unknown block "+clip(child.Type), didYouMean(child.Type, s.spec.words()))
		}
	}
	return s
}

// sections opens the blocks of a type and returns those that are valid.
func (s *section) sections(blockType string) []*section {
	var out []*section
	for _, b := range s.children(blockType) {
		if child := s.p.section(s.spec.path, b); child != nil {
			out = append(out, child)
		}
	}
	return out
}

// children returns the blocks of a type in the order of the file.
func (s *section) children(blockType string) []*hclsyntax.Block {
	var out []*hclsyntax.Block
	for _, b := range s.body.Blocks {
		if b.Type == blockType {
			out = append(out, b)
		}
	}
	return out
}

// only opens the only block of a type. If there is none, every attribute has its default.
func (p *parser) only(s *section, blockType string) *section {
	out := p.none(strings.TrimPrefix(s.spec.path+" "+blockType, " "))
	for i, b := range s.children(blockType) {
		if i > 0 {
			p.complain(b.DefRange(), "there are two "+blockType+" blocks", "join them")
		} else if opened := p.section(s.spec.path, b); opened != nil {
			out = opened
		}
	}
	return out
}

// none returns the section of an absent block.
func (p *parser) none(path string) *section {
	return &section{p: p, spec: findSpec(path), body: &hclsyntax.Body{}, absent: true}
}

// has reports whether the attribute is given.
func (s *section) has(name string) bool { return s.body.Attributes[name] != nil }

// need reports an attribute that is missing.
func (s *section) need(name, message, cure string) {
	if !s.has(name) {
		s.p.complain(s.header, message, cure)
	}
}

// at returns the place of an attribute's value, or of the block if it is absent.
func (s *section) at(name string) hcl.Range {
	if attr := s.body.Attributes[name]; attr != nil {
		return attr.Expr.Range()
	}
	return s.header
}

// get evaluates an attribute of a type; ok is false if it is absent or wrong.
func (s *section) get(name string, want cty.Type, cure string) (v value, ok bool) {
	attr := s.body.Attributes[name]
	if attr == nil {
		return value{}, false
	}
	if v, ok = s.p.eval(attr.Expr); !ok {
		return value{}, false
	}
	if v.IsNull() || v.Type() != want {
		s.p.complain(attr.Expr.Range(), fmt.Sprintf("%s must be a %s", name, want.FriendlyName()), cure)
		return value{}, false
	}
	return v, true
}

// text returns a text of one line that is not empty.
func (s *section) text(name string) (v value, ok bool) {
	if v, ok = s.get(name, cty.String, "write it in quotes"); !ok {
		return value{}, false
	}
	return v, s.oneLine(name, v, s.at(name))
}

func (s *section) oneLine(name string, v value, at hcl.Range) bool {
	switch text := v.AsString(); {
	case text == "":
		s.p.complain(at, name+" is empty", "give it a value, or leave the line out")
	case strings.ContainsFunc(text, isControl):
		s.p.complain(at, name+" holds a line break or control character", "write it on one line")
	default:
		return true
	}
	return false
}

// shown returns a value for a message, which must not quote external ones.
func shown(v value) string {
	if v.external {
		return "from outside the file"
	}
	return fmt.Sprintf("%q", clip(v.AsString()))
}

// textOr returns a text of one line, or absent.
func (s *section) textOr(name, absent string) string {
	if v, ok := s.text(name); ok {
		return v.AsString()
	}
	return absent
}

// word returns one of the allowed words.
func (s *section) word(name, absent string, allowed ...string) string {
	v, ok := s.text(name)
	switch {
	case !ok:
		return absent
	case slices.Contains(allowed, v.AsString()):
		return v.AsString()
	case v.external:
		s.p.complain(s.at(name), name+" has an unknown value", "known here: "+strings.Join(allowed, ", "))
	default:
		s.p.complain(s.at(name), fmt.Sprintf("%s %s is unknown", name, shown(v)), didYouMean(v.AsString(), allowed))
	}
	return absent
}

// flag returns true or false.
func (s *section) flag(name string, absent bool) bool {
	if v, ok := s.get(name, cty.Bool, "write true or false, without quotes"); ok {
		return v.True()
	}
	return absent
}

// number returns a whole number from low to high.
func (s *section) number(name string, absent, low, high int) int {
	v, ok := s.get(name, cty.Number, "write a whole number without quotes")
	if !ok {
		return absent
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != 0 || n < int64(low) || n > int64(high) {
		s.p.complain(s.at(name), name+" is out of range", fmt.Sprintf("write a whole number from %d to %d", low, high))
		return absent
	}
	return int(n)
}

// duration returns a duration of at least low.
func (s *section) duration(name string, absent, low time.Duration) time.Duration {
	v, ok := s.get(name, cty.String, `write a duration in quotes, with its unit, as in "30s"`)
	if !ok || !s.oneLine(name, v, s.at(name)) {
		return absent
	}
	d, err := ParseDuration(v.AsString())
	switch {
	case err != nil && v.external:
		s.p.complain(s.at(name), name+" is not a duration", `it must be like "30s" or "1h30m"`)
	case err != nil:
		s.p.complain(s.at(name), fmt.Sprintf("%s is %v", name, err), "")
	case d < low:
		s.p.complain(s.at(name), fmt.Sprintf("%s is too short", name), fmt.Sprintf("give it at least %v", low))
	default:
		return d
	}
	return absent
}

// secret returns a secret, and warns if other users of the machine can read it.
func (s *section) secret(name string) (auth.Secret, bool) {
	v, ok := s.get(name, cty.String, "write "+functions)
	if !ok {
		return auth.Secret{}, false
	}
	return s.asSecret(name, v, s.at(name))
}

// asSecret checks a text that is a secret, and the permissions of the files that it is in.
func (s *section) asSecret(name string, v value, at hcl.Range) (auth.Secret, bool) {
	p, text := s.p, v.AsString()
	switch {
	case text == "":
		p.complain(at, name+" is empty", "anyone could sign with an empty secret; put the secret there")
		return auth.Secret{}, false
	case strings.ContainsAny(text, "\r\n\x00"):
		p.complain(at, name+" holds a line break or NUL", "keep the secret alone, on one line")
		return auth.Secret{}, false
	}
	if v.literal && p.env.mode(p.file)&0o044 != 0 && p.once("literal") {
		p.warn(at, "a secret stands in a configuration that others can read",
			`move it to a file of mode 0600 or 0640 and write file("path"), or chmod 0600 the configuration`)
	}
	for _, path := range v.files {
		if p.env.mode(path)&0o004 != 0 && p.once(path) {
			p.warn(at, "every user of this machine can read the secret in "+path, "chmod o-rwx "+path)
		}
	}
	return auth.NewSecret(text), true
}

// secrets returns a list of secrets; a single one may stand without brackets.
func (s *section) secrets(name string) []auth.Secret {
	var out []auth.Secret
	s.each(name, func(v value, at hcl.Range) {
		if secret, ok := s.asSecret(name, v, at); ok {
			out = append(out, secret)
		}
	})
	return out
}

// texts calls use for each text of a list; a single one may stand without brackets.
func (s *section) texts(name string, use func(v value, at hcl.Range)) {
	s.each(name, func(v value, at hcl.Range) {
		if s.oneLine(name, v, at) {
			use(v, at)
		}
	})
}

// each calls use for each text of a list, which must not be empty.
func (s *section) each(name string, use func(v value, at hcl.Range)) {
	attr := s.body.Attributes[name]
	if attr == nil {
		return
	}
	members := []hclsyntax.Expression{attr.Expr}
	if tuple, ok := attr.Expr.(*hclsyntax.TupleConsExpr); ok {
		if members = tuple.Exprs; len(members) == 0 {
			s.p.complain(attr.Expr.Range(), name+" is an empty list", "put a value in, or leave the line out")
		}
	}
	for _, member := range members {
		v, ok := s.p.eval(member)
		switch {
		case !ok:
		case !v.isText():
			s.p.complain(member.Range(), name+" takes texts", "write each in quotes, or as "+functions)
		default:
			use(v, member.Range())
		}
	}
}
