// Package config turns an HCL file into a validated Config.
//
// Parse reads the file with hclsyntax and decodes it block by block: an attribute that is given
// is checked and converted, and one that is not gets its default, so that a Config is complete.
// The vocabulary (which blocks there are, and which attributes they take) is a table in
// schema.go. A test compares it with config.hcl.example, which shows every attribute with its
// default, so that the documentation cannot lag behind.
//
// The language is a small part of HCL: texts, numbers, true and false, lists, references to
// backends, and the functions file("path"), env("NAME") and credential("NAME"), which is a
// credential of the daemon's unit. Conditions, loops and arithmetic are refused. Two formats are not
// HCL's own: durations are texts with units, such as "1h30m" (see ParseDuration), and domain names
// are folded by package auth.
//
// # Diagnostics
//
// A fault becomes a Problem: an error, which means that there is no Config, or a warning. Each
// has the file, line and column, what is wrong, what to do about it, and the line itself with a
// marker under the place. Decoding goes on after a fault, so that one run finds all of them.
//
// Diagnostics are printed, logged and pasted into public bug reports, so none holds a secret.
// What a function returns is never quoted. A line of the file is quoted as far as package
// config recognises it as harmless (see redactor), since a line is quoted above all when a
// missing quotation mark has given everything after it another meaning. Tests break a
// configuration at each of its bytes and search the output for its secrets.
//
// # Reload
//
// Diff compares two Configs for a daemon that reloads: which listeners, backends and domains
// came, went or changed. A Config is not changed after Parse and may be shared.
package config
