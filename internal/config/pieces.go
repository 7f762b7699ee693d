package config

import (
	"bytes"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// HCL's parser makes of a text many times its size before the first block is decoded, so that a file of thousands
// of domains would leave a large process behind. Such a file is parsed in pieces, and of those that have nothing
// but domains one at a time.
//
// A file is cut before lines that begin with the word domain. Some of these may be within a text, a comment or a
// block. Then the piece before it does not end what it has begun, which is an error, and the file is parsed as a
// whole: two pieces without an error are, one after the other, a file that means the same.

// pieceSize is the length from which on a piece ends at the next domain, in bytes. The tokens of longer pieces take
// longer than their share, since the list of them has to be moved when it grows.
const pieceSize = 1 << 10

var domainWord = []byte("domain ")

// piece is a part of a file.
type piece struct {
	text []byte
	at   hcl.Pos
	late bool // each line that begins with a letter is one of a domain: it is parsed when all else is known
}

// cut cuts a file into pieces, each of at least size bytes.
func cut(src []byte, size int) (pieces []piece) {
	next := piece{at: hcl.InitialPos, late: true}
	for at := hcl.InitialPos; at.Byte < len(src); at.Line++ {
		line := src[at.Byte:]
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n+1]
		}
		domain := bytes.HasPrefix(line, domainWord)
		if domain && at.Byte-next.at.Byte >= size {
			next.text = src[next.at.Byte:at.Byte]
			pieces = append(pieces, next)
			next = piece{at: at, late: true}
		}
		first := line[0] | 0x20 // in lower case
		next.late = next.late && (domain || first < 'a' || first > 'z')
		at.Byte += len(line)
	}
	next.text = src[next.at.Byte:]
	return append(pieces, next)
}

// parse parses a piece. ok is false if there is something in it that is not plain.
func (c *piece) parse(filename string) (body *hclsyntax.Body, ok bool) {
	file, diags := hclsyntax.ParseConfig(c.text, filename, c.at)
	if len(diags) > 0 {
		return nil, false
	}
	body = file.Body.(*hclsyntax.Body)
	return body, !c.late || len(body.Attributes) == 0 && !slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type != "domain" })
}

// join parses all pieces that are not late, as one body, and returns the late ones. ok is false if the file is
// to be parsed as a whole.
func join(src []byte, filename string, size int) (body *hclsyntax.Body, late []piece, ok bool) {
	pieces := cut(src, size)
	if len(pieces) == 1 {
		return nil, nil, false
	}
	body = &hclsyntax.Body{Attributes: make(hclsyntax.Attributes)}
	for _, c := range pieces {
		if c.late {
			late = append(late, c)
			continue
		}
		part, ok := c.parse(filename)
		if !ok {
			return nil, nil, false
		}
		for name, attr := range part.Attributes {
			if body.Attributes[name] != nil {
				return nil, nil, false
			}
			body.Attributes[name] = attr
		}
		body.Blocks = append(body.Blocks, part.Blocks...)
	}
	return body, late, true
}
