package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// DataDirOrDefault is DataDir, or the default of data_dir for a file that cannot be read.
func DataDirOrDefault(path string) string {
	if dir, ok := DataDir(path); ok {
		return dir
	}
	return defaultDataDir
}

// DataDir returns the data directory of the configuration at path, where the sockets of a running
// daemon are. Other parts of the file may have errors. It returns false if the file cannot be
// read or its data_dir is invalid.
func DataDir(path string) (string, bool) {
	src, err := readFile(path, maxSource, false)
	if err != nil {
		return "", false
	}
	file, _ := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	only := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}
	if attr := file.Body.(*hclsyntax.Body).Attributes["data_dir"]; attr != nil {
		only.Attributes["data_dir"] = attr
	}
	p := newParser(path, src, OSEnv())
	dir := p.resolve(p.dir, p.open("", only, nil).textOr("data_dir", defaultDataDir))
	return dir, !p.problems.Failed()
}
