package migrate

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/cmd/internal/pipe"
	"postern/internal/childenv"
	"postern/internal/xcauth"
)

// readSources reads the database and the dumps into data.
func readSources(ctx context.Context, std pipe.Stdio, o ImportOptions, settings *xcauth.Options, data *xcauth.Data) error {
	db := o.DB
	if db == "" {
		if db = settings.DB; absent(db) {
			db = ""
		}
	}
	if db != "" {
		if err := readSQLite(ctx, db, data); err != nil {
			return err
		}
	}
	for _, path := range o.Dumps {
		if err := readDump(std.In, path, data); err != nil {
			return err
		}
	}
	if db != "" || len(o.Dumps) > 0 {
		return nil
	}
	for _, old := range []string{settings.DomainDB, settings.CacheDB, settings.RosterDB} {
		if old != "" && !absent(old) {
			return fmt.Errorf("%s is a Berkeley DB file of xcauth before version 2: run `db_dump -p %[1]s > FILE` (package db-util) for each of domain-db, cache-db and shared-roster-db, and give all of them to one import, each with --dump FILE", old)
		}
	}
	if file := settings.DomainConfig; file != "" && !absent(file) {
		return domainConfigError(file)
	}
	if o.Out == "" {
		return fmt.Errorf("there is no database %s: name it with --db, or give --dump", settings.DB)
	}
	fmt.Fprintf(std.Err, "there is no database %s: only the configuration is written\n", settings.DB)
	return nil
}

// sqlitePrograms are programs that print the rows of a query, which follows the file on their command line, with
// "|" between the columns: SQLite's own or, on a machine that has xcauth, the interpreter of xcauth. A library for one
// import was the second largest dependency of this program.
var sqlitePrograms = [][]string{
	{"sqlite3", "-readonly", "-batch", "-bail", "-init", "/dev/null", "-noheader", "-list", "-separator", "|", "-cmd", ".timeout 5000"},
	{"python3", "-I", "-c", `import sqlite3, sys, urllib.parse
db = sqlite3.connect("file:" + urllib.parse.quote(sys.argv[1]) + "?mode=ro", uri=True, timeout=5)
for row in db.execute(sys.argv[2]): print("|".join(row))`},
}

// sqliteTimeout bounds a query.
const sqliteTimeout = time.Minute

// readSQLite adds the rows of xcauth's database to data. The file is only read.
func readSQLite(ctx context.Context, path string, data *xcauth.Data) error {
	if info, err := os.Stat(path); err != nil {
		return fmt.Errorf("database: %w", err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("database: %s is not a file", path)
	}
	program, err := findProgram(sqlitePrograms)
	if err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, sqliteTimeout)
	defer cancel()
	rows := func(query string) ([][]xcauth.Text, error) {
		rows, err := sqliteRows(ctx, program, path, query)
		if err != nil {
			err = fmt.Errorf("database %s: %w: is it xcauth's, and readable for this user?", path, err)
		}
		return rows, err
	}
	found, err := rows("SELECT " + hexOf("m.name") + ", " + hexOf("c.name") + " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'")
	if err != nil {
		return err
	}
	columns := map[string][]string{} // by table
	for _, f := range found {
		columns[f[0].Value] = append(columns[f[0].Value], f[1].Value)
	}
	for _, table := range xcauth.Tables() {
		if columns[table] == nil {
			continue
		}
		all, err := rows(tableQuery(table, columns[table]))
		if err != nil {
			return err
		}
		for _, row := range all {
			data.AddRow(table, row)
		}
	}
	return nil
}

// findProgram returns the first command that is installed.
func findProgram(commands [][]string) ([]string, error) {
	var names []string
	for _, command := range commands {
		if _, err := exec.LookPath(command[0]); err == nil {
			return command, nil
		}
		names = append(names, command[0])
	}
	return nil, fmt.Errorf("neither %s is installed, to read it: sudo apt install sqlite3", strings.Join(names, " nor "))
}

// tableQuery asks for the columns of a table that xcauth has, in the order of xcauth.Columns. Those that the
// table lacks are NULL; without its key it is not xcauth's, and SQLite says so.
func tableQuery(table string, has []string) string {
	var list []string
	for i, c := range xcauth.Columns(table) {
		if i > 0 && !slices.Contains(has, c) {
			c = "NULL"
		}
		list = append(list, hexOf(c))
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + table + " ORDER BY 1"
}

// hexOf is an expression for a column's value of any type, as a word: =, and its text in hexadecimal digits; or
// - for NULL.
func hexOf(column string) string {
	return "CASE WHEN " + column + " IS NULL THEN '-' ELSE '=' || hex(CAST(" + column + " AS BLOB)) END"
}

// sqliteRows returns the rows of a query with columns made by hexOf.
func sqliteRows(ctx context.Context, program []string, path, query string) (rows [][]xcauth.Text, err error) {
	path, err = filepath.Abs(path) // it is no option
	if err != nil {
		return nil, err
	}
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program[0], append(slices.Clone(program[1:]), path, query)...)
	cmd.Env, cmd.Stderr = childenv.New(), &complaint
	out, err := cmd.Output()
	if err != nil {
		said := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("%s: %w: %s", program[0], err, said[len(said)-1])
	}
	for line := range strings.Lines(string(out)) {
		var row []xcauth.Text
		for word := range strings.SplitSeq(strings.TrimSpace(line), "|") {
			digits, valid := strings.CutPrefix(word, "=")
			text, err := hex.DecodeString(strings.TrimPrefix(digits, "-"))
			if err != nil {
				return nil, fmt.Errorf("%s printed %q: %w", program[0], line, err)
			}
			row = append(row, xcauth.Text{Value: string(text), Valid: valid})
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// readDump adds the records of db_dump's output to data; path "-" is stdin.
func readDump(stdin *os.File, path string, data *xcauth.Data) error {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("dump: %w", err)
		}
		defer f.Close()
		in = f
	}
	if err := xcauth.ReadDump(in, data.AddRecord); err != nil {
		return fmt.Errorf("dump %s: %w", path, err)
	}
	return nil
}

// absent reports whether a file does not exist.
func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
