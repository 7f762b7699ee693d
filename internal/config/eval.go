package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// value is the value of an expression.
type value struct {
	cty.Value
	literal  bool     // some of its text is in the configuration itself
	external bool     // some of it comes from a function, so no message may quote it
	files    []string // the files that functions read for it
}

// isText reports whether the value is a string.
func (v value) isText() bool { return v.Type() == cty.String && !v.IsNull() }

// writeValue is a cure: how values are written.
const writeValue = `write a text in quotes, a number, true or false, file("path"), env("NAME") or credential("NAME")`

// Templates of a user's directory are written as Dovecot's are, which HCL would take for its own. So
// before the file is parsed, their first two bytes become one character of two bytes, which no text
// may hold: all places in the file stay as they are.
const (
	templateOpen = "%{"
	maskedOpen   = "\u0091"
)

// templateWords are the words of the templates.
var templateWords = [...]string{"user}", "domain}"}

// mask hides the templates in the text of a file. After a further "%" they are HCL's way to write
// the same.
func mask(src []byte) []byte {
	for _, word := range templateWords {
		template := []byte(templateOpen + word)
		for from := 0; ; {
			i := bytes.Index(src[from:], template)
			if i < 0 {
				break
			}
			if i += from; i == 0 || src[i-1] != '%' {
				src = slices.Concat(src[:i], []byte(maskedOpen), src[i+len(maskedOpen):])
			}
			from = i + len(template)
		}
	}
	return src
}

// unmask restores the templates in a text.
func unmask(text string) string {
	for _, word := range templateWords {
		text = strings.ReplaceAll(text, maskedOpen+word, templateOpen+word)
	}
	return text
}

// eval evaluates an expression: a text with interpolation, a number, true or false, or a call. It does
// without hcl.EvalContext, which would also accept conditions, loops and implicit conversions. If ok
// is false, it has reported why.
func (p *parser) eval(e hclsyntax.Expression) (v value, ok bool) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		v = value{Value: e.Val, literal: true}
		if v.isText() {
			v.Value = cty.StringVal(unmask(v.AsString()))
		}
		return v, true
	case *hclsyntax.ParenthesesExpr:
		return p.eval(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return p.eval(e.Wrapped)
	case *hclsyntax.TemplateExpr:
		return p.template(e)
	case *hclsyntax.FunctionCallExpr:
		return p.call(e)
	case *hclsyntax.UnaryOpExpr:
		if inner, ok := p.eval(e.Val); ok && e.Op == hclsyntax.OpNegate && inner.Type() == cty.Number {
			return value{Value: inner.Negate(), literal: true}, true
		}
		p.complain(e.Range(), "this is not a value", writeValue)
	case *hclsyntax.ScopeTraversalExpr:
		p.complain(e.Range(), "a word without quotes is not a value", writeValue)
	default:
		p.complain(e.Range(), "this kind of expression is not supported", writeValue)
	}
	return value{}, false
}

// template evaluates a quoted text with interpolation.
func (p *parser) template(e *hclsyntax.TemplateExpr) (v value, ok bool) {
	var text strings.Builder
	for _, part := range e.Parts {
		piece, ok := p.eval(part)
		if !ok {
			return value{}, false
		}
		if !piece.isText() {
			p.complain(part.Range(), "only texts can be joined", `use "${env("NAME")}" or "${file("path")}"`)
			return value{}, false
		}
		text.WriteString(piece.AsString())
		v.literal = v.literal || piece.literal
		v.external = v.external || piece.external
		v.files = append(v.files, piece.files...)
	}
	v.Value = cty.StringVal(text.String())
	return v, true
}

// functions are the functions of the language.
const functions = `file("path"), env("NAME") or credential("NAME")`

// call evaluates a call of a function.
func (p *parser) call(e *hclsyntax.FunctionCallExpr) (v value, ok bool) {
	var from func(*hclsyntax.FunctionCallExpr, value) (value, bool)
	switch e.Name {
	case "file":
		from = p.fromFile
	case "env":
		from = p.fromEnv
	case "credential":
		from = p.fromCredential
	default:
		p.complain(e.NameRange, "unknown function", "write "+functions)
		return value{}, false
	}
	if len(e.Args) != 1 || e.ExpandFinal {
		p.complain(e.Range(), e.Name+" takes one argument", "write "+functions)
		return value{}, false
	}
	arg, ok := p.eval(e.Args[0])
	if !ok {
		return value{}, false
	}
	if !arg.isText() || arg.AsString() == "" || strings.ContainsFunc(arg.AsString(), isControl) {
		p.complain(e.Args[0].Range(), e.Name+" takes a text of one line", "write "+functions)
		return value{}, false
	}
	return from(e, arg)
}

// named returns the name that is an argument, for a message. It hides a name that comes from
// outside the file, since it may be a secret that was passed by mistake.
func named(arg value, what string) string {
	if arg.external {
		return "the " + what + " named here"
	}
	return what + " " + clip(arg.AsString())
}

func (p *parser) fromEnv(e *hclsyntax.FunctionCallExpr, arg value) (value, bool) {
	text, ok := p.env.lookup(arg.AsString())
	if !ok {
		p.complain(e.Range(), named(arg, "environment variable")+" is not set",
			"set it where the program is started (systemd: Environment= or EnvironmentFile=), or use file() or credential()")
		return value{}, false
	}
	return p.outside(e, text, nil)
}

func (p *parser) fromFile(e *hclsyntax.FunctionCallExpr, arg value) (value, bool) {
	path := p.resolve(p.dir, arg.AsString())
	data, err := p.env.readFile(path)
	if err != nil {
		cure := "check the path"
		switch {
		case errors.Is(err, fs.ErrNotExist):
			cure = "create the file or correct the path; a relative path starts at the configuration's directory"
		case errors.Is(err, fs.ErrPermission):
			cure = "let the user that postern runs as read it (chown, or chmod 0640 and its group)"
		case errors.Is(err, errIrregular):
			cure = "put the text in a regular file: it is read again at every reload"
		}
		p.complain(e.Range(), fmt.Sprintf("cannot read %s: %v", named(arg, "file"), cause(err)), cure)
		p.problems[len(p.problems)-1].Denied = errors.Is(err, fs.ErrPermission)
		return value{}, false
	}
	p.files = append(p.files, path)
	return p.content(e, data, path)
}

// content returns a value for the content of a file.
func (p *parser) content(e *hclsyntax.FunctionCallExpr, data []byte, path string) (value, bool) {
	if p.keySize > 0 && len(data) == p.keySize { // of a key, the bytes themselves
		return p.outside(e, hex.EncodeToString(data), []string{path})
	}
	return p.outside(e, trimNewline(string(data)), []string{path})
}

// outside returns a value for a text from outside the configuration.
func (p *parser) outside(e *hclsyntax.FunctionCallExpr, text string, files []string) (value, bool) {
	if !utf8.ValidString(text) {
		p.complain(e.Range(), "the result of "+e.Name+" is not UTF-8 text", "store it as text, for example in hexadecimal")
		return value{}, false
	}
	return value{Value: cty.StringVal(text), external: true, files: files}, true
}

// trimNewline drops one line end, which editors and echo write at the end of a file.
func trimNewline(text string) string {
	text, found := strings.CutSuffix(text, "\n")
	if found {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r <= 0x9f }

// elements returns the members of a list. If ok is false, it has reported why.
func (p *parser) elements(e hclsyntax.Expression, what string) (list []hclsyntax.Expression, ok bool) {
	if paren, yes := e.(*hclsyntax.ParenthesesExpr); yes {
		return p.elements(paren.Expression, what)
	}
	tuple, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok {
		p.complain(e.Range(), what+" must be a list", "write "+what+" = [...]")
		return nil, false
	}
	return tuple.Exprs, true
}
