package main

import (
	"encoding"
	"encoding/json"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output prints what a command has found, as text or as JSON.
type output struct {
	app  *app
	cmd  *cobra.Command
	json bool
	// programs: without --json the output is text on a terminal only, and JSON for programs, which
	// have read it until now.
	programs bool
}

// with adds --json to a command, and to its page the fields of what is printed, which has the type of sample.
func (o *output) with(cmd *cobra.Command, sample any) *cobra.Command {
	o.cmd = cmd
	describeJSON(cmd, sample)
	usage := "print JSON"
	if o.programs {
		usage = "print JSON, as is done in this version wherever the output is not a terminal; --json=false: text"
	}
	cmd.Flags().BoolVar(&o.json, "json", false, usage)
	return cmd
}

// asJSON reports whether JSON is to be printed.
func (o *output) asJSON() bool {
	return o.json || o.programs && !o.cmd.Flags().Changed("json") && !term.IsTerminal(int(o.app.Out.Fd()))
}

// print prints a value as JSON, or its text, unless err says that there is none.
func (o *output) print(v any, err error, text func(io.Writer) error) error {
	switch {
	case err != nil:
		return err
	case o.asJSON():
		enc := json.NewEncoder(o.app.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	return text(o.app.Out)
}

// describeJSON adds to a command's page which fields its JSON has.
func describeJSON(cmd *cobra.Command, sample any) {
	what, t := "an object with", reflect.TypeOf(sample)
	if t.Kind() == reflect.Slice {
		what, t = "a list of", t.Elem()
	}
	fields := jsonFields(t)
	if fields == "" {
		fields = "strings"
	} else if what == "a list of" {
		what += " objects with"
	}
	cmd.Long = strings.TrimSpace(cmd.Long + "\n\n" + wrap("With --json: "+what+" "+fields+".", pageWidth-5))
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// jsonFields lists the fields of a type in JSON, each with its own in parentheses; "" for what has none.
func jsonFields(t reflect.Type) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch {
	case t.Implements(jsonMarshaler) || t.Implements(textMarshaler):
		return ""
	case t.Kind() == reflect.Map:
		if below := jsonFields(t.Elem()); below != "" {
			return "of each name: " + below
		}
		return ""
	case t.Kind() != reflect.Struct:
		return ""
	}
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		below := jsonFields(f.Type)
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			names = append(names, below)
			continue
		case below != "":
			name += " (" + below + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// wrap breaks a text into lines of at most width bytes, between words.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
