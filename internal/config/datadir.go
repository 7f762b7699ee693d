package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// DataDir returns the data directory that the configuration at path names, whatever is wrong
// with the rest of it: where to find the process that runs on it. It is false for a file that
// cannot be read, or whose data_dir cannot be told.
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
	dir := p.resolve(p.dir, p.open("", only, nil).path("data_dir", defaultDataDir))
	return dir, !p.problems.Failed()
}
