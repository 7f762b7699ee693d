package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"strconv"
)

//go:embed assets
var files embed.FS

// asset is a file that pages load.
type asset struct {
	kind    string
	content []byte
	version string // of the content
}

// assets are the files by their names.
var assets = map[string]asset{
	"style.css": load("style.css", "text/css; charset=utf-8"),
	"script.js": load("script.js", "text/javascript; charset=utf-8"),
	"icon.svg":  load("icon.svg", "image/svg+xml"),
}

func load(name, kind string) asset {
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	sum := sha256.Sum256(content)
	return asset{kind, content, hex.EncodeToString(sum[:6])}
}

// assetURL is where a file is loaded from: another address for another content, so that browsers may keep it.
func assetURL(name string) string { return "/static/" + name + "?v=" + assets[name].version }

// assetRoutes serve the files, without a sign-in.
var assetRoutes = func() (routes []Route) {
	for name, a := range assets {
		routes = append(routes, Route{Method: http.MethodGet, Path: "/static/" + name, Handler: a.serve})
	}
	return routes
}()

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.kind)
	header.Set("Content-Length", strconv.Itoa(len(a.content)))
	if r.URL.Query().Get("v") == a.version {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.content)
	}
}
