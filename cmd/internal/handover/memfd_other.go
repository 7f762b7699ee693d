//go:build !linux

package handover

import (
	"errors"
	"os"
)

// errNoMemoryFile means that what is in memory stays behind: the successor starts without it.
var errNoMemoryFile = errors.New("this system has no sealed memory files")

// Seal fails: see errNoMemoryFile.
func Seal(string, []byte) (*os.File, error) { return nil, errNoMemoryFile }

// Unseal fails: see errNoMemoryFile.
func Unseal(*os.File) ([]byte, error) { return nil, errNoMemoryFile }
