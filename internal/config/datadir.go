package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// DataDir returns the data directory of the configuration at path, whose other parts may have
// errors: the sockets of a running daemon are there. It returns false if the file cannot be read
// or its data_dir is invalid.
func DataDir(path string) (string, bool) {
	src, err := readBounded(path, maxSource)
	if err != nil {
		return "", false
	}
	file, _ := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if file == nil {
		return "", false
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return "", false
	}
	p := &parser{file: path, dir: sourceDir(path), src: src, env: OSEnv()}
	attr := body.Attributes["data_dir"]
	only := &hclsyntax.Body{SrcRange: body.SrcRange, EndRange: body.EndRange, Attributes: hclsyntax.Attributes{}}
	if attr != nil {
		only.Attributes["data_dir"] = attr
	}
	dir := p.resolve(p.dir, p.open("", only, nil).textOr("data_dir", defaultDataDir))
	return dir, !p.problems.Failed()
}
