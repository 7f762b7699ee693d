package config

import (
	"encoding/base64"
	"encoding/hex"
	"path/filepath"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"postern/internal/auth"
)

// KeySize is the length of a key in bytes, whether of a cache or of app passwords.
const KeySize = 32

// key decodes the key of a block: of a cache, or of app passwords.
func (p *parser) key(s *section, dataDir string) auth.Secret {
	const cure = `write key = file("path") or credential("NAME"), and make the file with: openssl rand -hex 32`
	p.keySize = KeySize
	v, ok := s.get("key", cty.String, cure)
	p.keySize = 0
	if !ok {
		return auth.Secret{}
	}
	for _, path := range v.files {
		if within(p.env.realPath(path), p.env.realPath(dataDir)) || within(filepath.Clean(path), filepath.Clean(dataDir)) {
			p.complain(s.at("key"), "the key lies in data_dir, beside the passwords that it protects: a copy of the one would be a copy of both",
				"move it elsewhere, such as to the directory of this file, and keep it out of backups of data_dir")
			return auth.Secret{}
		}
	}
	text, ok := s.asSecret("key", v, s.at("key"))
	if !ok {
		return auth.Secret{}
	}
	key, ok := decodeKey(text.Reveal())
	if !ok {
		p.complain(s.at("key"), "key is not one of 32 bytes", "it must be 32 bytes, 64 hexadecimal digits, or the base64 of 32 bytes; make one with: openssl rand -hex 32")
	}
	return key
}

// within reports whether a path is that of dir or of a file below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// decodeKey reads a key of KeySize bytes: in hexadecimal digits, in base64, or the bytes themselves.
func decodeKey(text string) (auth.Secret, bool) {
	if len(text) == KeySize {
		return auth.NewSecret(text), true
	}
	plain := strings.TrimRight(text, "=")
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.RawStdEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if key, err := decode(plain); err == nil && len(key) == KeySize {
			return auth.NewSecret(string(key)), true
		}
	}
	return auth.Secret{}, false
}
