package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"postern/internal/version"
)

func newVersion(a *app) *cobra.Command {
	out := &output{app: a}
	return out.with(&cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  postern version\n  postern version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			parts := versionParts{version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return out.print(parts, nil, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, versionLine())
				return err
			})
		},
	}, versionParts{})
}

// versionParts are the parts of the version's line.
type versionParts struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// versionLine is the version with what the program was built by and for.
func versionLine() string {
	return fmt.Sprintf("postern %s (%s, %s/%s)", version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
