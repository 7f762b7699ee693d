package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports is the import table: which packages of the project each package may import. Arrows point
// down only. "x/..." stands for x and all packages below it, in both columns; a row of a package
// itself takes precedence over such a row. Packages in leaves may be imported by all others.
var imports = map[string][]string{
	// One function each, used in several places.
	"internal/atomicfile":    nil,
	"internal/audit":         nil,
	"internal/auth/passhash": nil,
	"internal/childenv":      nil,
	"internal/filelock":      nil,
	"internal/logfile":       nil,
	"internal/peercred":      nil,
	"internal/protocol":      nil,
	"internal/proxies":       nil,
	"internal/unit":          nil,
	"internal/unixtime":      nil,
	"internal/version":       nil,

	// The core, which decides what is answered.
	"internal/auth":                  nil,
	"wire":                           {"internal/auth", "internal/protocol"},
	"internal/scram":                 {"internal/auth"},
	"internal/scram/scramtest":       nil,
	"internal/allow":                 {"internal/auth"},
	"internal/config":                {"internal/allow", "internal/auth", "internal/oidc", "internal/protocol"},
	"internal/token":                 {"internal/auth"},
	"internal/store":                 {"internal/auth"},
	"internal/cache":                 {"internal/allow", "internal/auth", "internal/store"},
	"internal/apppassword":           {"internal/auth", "internal/scram", "internal/store"},
	"internal/jsonobject":            nil,
	"internal/oidc":                  {"internal/auth", "internal/jsonobject"},
	"internal/backend":               {"internal/auth", "internal/jsonobject", "internal/oidc", "internal/scram"},
	"internal/backend/nextcloudtest": nil,
	"internal/backend/oidctest":      nil,
	"internal/roster":                {"internal/auth", "internal/store"},
	"internal/registry":              {"internal/auth", "internal/store"},
	"internal/limit":                 {"internal/auth"},
	"internal/snapshot":              nil,
	"internal/xcauth":                {"internal/auth", "internal/config"},
	"internal/qrcode":                nil,
	"internal/qrcode/qrcodetest":     nil,
	"internal/starter":               {"internal/auth", "internal/config"},
	"internal/recent":                {"internal/auth"},
	"internal/web":                   nil,
	"internal/web/session":           {"internal/auth"},
	"internal/web/signin":            {"internal/auth", "internal/web", "internal/web/session"},
	"internal/web/selfservice":       {"internal/apppassword", "internal/auth", "internal/qrcode", "internal/unixtime", "internal/web", "internal/web/session", "internal/web/signin"},
	"internal/web/status":            {"internal/auth", "internal/recent", "internal/web", "internal/web/session", "internal/web/signin"},
	"internal/doctor":                {"internal/allow", "internal/auth", "internal/config", "internal/backend"},
	"internal/manual":                {"internal/config"},

	"internal/store/storetest":              {"internal/store"},
	"internal/store/valkeystore":            {"internal/auth", "internal/store"},
	"internal/store/valkeystore/valkeytest": nil,

	// The actors, which decide when, from the bottom to the top.
	"actors/supervise": nil, // knows nothing of the project
	"actors/metrics":   {"internal/auth"},
	"actors/env":       {"actors/supervise", "internal/limit", "internal/recent", "internal/store"},
	"actors/changes":   {"actors/env", "internal/auth", "internal/store"},
	"actors/slots":     {"actors/env", "actors/metrics", "actors/supervise", "internal/auth", "internal/backend", "internal/config", "internal/limit"},
	"actors/domain": {"actors/slots", "actors/supervise", "internal/allow", "internal/apppassword", "internal/auth", "internal/backend", "internal/cache", "internal/config", "internal/limit",
		"internal/oidc", "internal/roster", "internal/scram", "internal/token"},
	"actors/call":   {"actors/domain", "actors/metrics", "actors/slots", "actors/supervise", "internal/auth", "internal/cache", "internal/recent", "internal/scram"},
	"actors/tokens": {"actors/call", "actors/domain", "actors/env", "actors/supervise", "internal/auth", "internal/store", "internal/token"},
	"actors/memory": {"actors/call", "actors/changes", "actors/domain", "actors/env", "actors/slots", "actors/supervise", "internal/apppassword", "internal/auth",
		"internal/backend", "internal/cache", "internal/limit", "internal/scram", "internal/store"},
	"actors/rosters": {"actors/changes", "actors/domain", "actors/env", "actors/slots", "actors/supervise", "internal/auth", "internal/backend",
		"internal/roster", "internal/store"},
	"actors/rosters/rostertest": nil,
	"actors/router": {"actors/call", "actors/domain", "actors/env", "actors/memory", "actors/rosters", "actors/slots",
		"actors/supervise", "internal/auth", "internal/backend", "internal/cache", "internal/config", "internal/registry", "internal/store"},
	"actors/front":           {"actors/call", "actors/changes", "actors/env", "actors/metrics", "actors/supervise", "internal/auth", "internal/config", "wire"},
	"actors/front/fronttest": {"internal/auth", "internal/config"},
	"actors": {"actors/...", "internal/apppassword", "internal/auth", "internal/backend", "internal/cache", "internal/config", "internal/limit",
		"internal/recent", "internal/registry", "internal/scram", "internal/snapshot", "internal/store", "internal/token", "wire"},

	// The daemon around the actors, from the bottom to the top.
	"cmd/internal/systemd":    nil,
	"cmd/internal/handover":   {"internal/snapshot"},
	"cmd/internal/datadir":    nil,
	"cmd/internal/configfile": {"cmd/internal/datadir", "internal/config"},
	"cmd/internal/listen":     {"cmd/internal/systemd", "internal/config", "wire"},
	"cmd/internal/metrics":    {"actors", "actors/memory", "actors/slots"},
	"cmd/internal/pages":      {"cmd/internal/listen", "internal/config"},
	"cmd/internal/control": {"cmd/internal/handover", "actors", "actors/memory", "actors/router", "actors/slots", "internal/apppassword", "internal/auth", "internal/backend", "internal/cache", "internal/config",
		"internal/doctor", "internal/registry", "internal/roster", "internal/store"},
	"cmd/internal/daemon": {"cmd/internal/configfile", "cmd/internal/control", "cmd/internal/datadir", "cmd/internal/handover", "cmd/internal/listen",
		"cmd/internal/metrics", "cmd/internal/pages", "cmd/internal/systemd", "actors", "actors/router", "actors/slots", "internal/recent", "internal/web", "internal/web/selfservice", "internal/web/session", "internal/web/signin", "internal/web/status", "internal/apppassword", "internal/auth", "internal/backend", "internal/cache",
		"internal/config", "internal/doctor", "internal/roster", "internal/snapshot", "internal/store", "internal/store/valkeystore", "wire"},
	"cmd/internal/admin": {"cmd/internal/control", "cmd/internal/daemon", "cmd/internal/datadir", "actors", "actors/changes", "actors/router", "internal/apppassword", "internal/auth",
		"internal/backend", "internal/cache", "internal/config", "internal/registry", "internal/roster", "internal/store"},
	"cmd/internal/pipe/relay": {"cmd/internal/systemd", "internal/auth", "wire"}, // small: no store, no actors, no configuration
	"cmd/internal/pipe": {"cmd/internal/configfile", "cmd/internal/daemon", "cmd/internal/datadir", "cmd/internal/pipe/relay",
		"internal/auth", "internal/config", "wire"},
	"cmd/internal/migrate": {"cmd/internal/admin", "cmd/internal/configfile", "cmd/internal/control", "cmd/internal/daemon",
		"cmd/internal/datadir", "cmd/internal/pipe", "cmd/internal/pipe/relay", "internal/auth", "internal/cache", "internal/config",
		"internal/registry", "internal/roster", "internal/store", "internal/xcauth"},

	// The programs.
	"cmd/postern": {"cmd/internal/admin", "cmd/internal/configfile", "cmd/internal/control", "cmd/internal/daemon", "cmd/internal/datadir",
		"cmd/internal/migrate", "cmd/internal/pipe", "actors", "actors/memory", "internal/auth", "internal/backend", "internal/config", "internal/doctor", "internal/manual", "internal/protocol",
		"internal/qrcode", "internal/registry", "internal/roster", "internal/scram", "internal/starter", "internal/store", "internal/token", "internal/xcauth"},
	"cmd/postern-relay":     {"cmd/internal/pipe/relay"},
	"scripts/package/image": nil,
	"scripts/typecheck":     nil,
	"scripts/costs":         nil,
	"scripts/bench":         {"internal/apppassword", "internal/auth", "internal/cache", "internal/store", "internal/token"},
	"cmd/e2e/...": {"cmd/e2e/...", "internal/auth", "internal/backend", "internal/backend/nextcloudtest", "internal/backend/oidctest", "internal/cache", "internal/config", "internal/doctor",
		"internal/manual", "internal/qrcode/qrcodetest", "internal/roster", "internal/store"},
}

// leaves may be imported by every package except those that they import.
var leaves = []string{"internal/atomicfile", "internal/audit", "internal/auth/passhash", "internal/childenv", "internal/filelock", "internal/logfile", "internal/peercred", "internal/proxies", "internal/unit", "internal/unixtime", "internal/version"}

// testImports are imported by tests only, besides what the package itself may import.
var testImports = []string{"internal/store/storetest", "internal/store/valkeystore/valkeytest", "internal/backend/nextcloudtest", "internal/backend/oidctest", "actors/front/fronttest", "actors/rosters/rostertest", "internal/config", "internal/qrcode/qrcodetest", "internal/scram/scramtest", "internal/token"}

// rigImports are what the tests of a package need to set it up, from layers below it.
var rigImports = map[string][]string{
	"actors":        {"internal/allow"},
	"actors/domain": {"actors/env"},
	"cmd/postern":   {"actors/slots", "internal/protocol"},
}

// row returns the key of a package in the import table.
func row(t *testing.T, path string) string {
	t.Helper()
	if _, ok := imports[path]; ok {
		return path
	}
	for key := range imports {
		if covers(key, path) {
			return key
		}
	}
	t.Errorf("%s is not in the import table", path)
	return ""
}

// covers reports whether an entry of the table stands for a package.
func covers(entry, path string) bool {
	below, all := strings.CutSuffix(entry, "/...")
	return entry == path || all && (path == below || strings.HasPrefix(path, below+"/"))
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "postern/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(p.ImportPath, "postern/")
		key := row(t, path)
		seen[key] = true
		check := func(list, may []string) {
			for _, imported := range list {
				other, ours := strings.CutPrefix(imported, "postern/")
				if ours && other != path && !slices.ContainsFunc(may, func(entry string) bool { return covers(entry, other) }) {
					t.Errorf("%s may not import %s", path, other)
				}
			}
		}
		may := slices.Concat(imports[key], leaves)
		check(p.Imports, may)
		check(slices.Concat(p.TestImports, p.XTestImports), slices.Concat(may, testImports, rigImports[key]))
	}
	for key := range imports {
		if !seen[key] {
			t.Errorf("the import table has a row for %s, where no package is", key)
		}
	}
}
