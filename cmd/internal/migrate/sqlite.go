package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite

	"postern/cmd/internal/pipe"
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

// readSQLite adds the rows of xcauth's database to data. The file is only read.
func readSQLite(ctx context.Context, path string, data *xcauth.Data) error {
	if info, err := os.Stat(path); err != nil {
		return fmt.Errorf("database: %w", err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("database: %s is not a file", path)
	}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	defer db.Close()
	for _, table := range xcauth.Tables() {
		if err := readTable(ctx, db, table, data); err != nil {
			return fmt.Errorf("database %s, table %s: %w: is it xcauth's, and readable for this user?", path, table, err)
		}
	}
	return nil
}

// readTable reads a table. The table may be missing, and so may its columns except the key.
func readTable(ctx context.Context, db *sql.DB, table string, data *xcauth.Data) error {
	columns := xcauth.Columns(table)
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+table+" ORDER BY "+columns[0])
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return nil
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	found, err := rows.Columns()
	if err != nil {
		return err
	}
	values, targets := make([]any, len(found)), make([]any, len(found))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		row := make([]xcauth.Text, len(columns))
		for i, c := range columns {
			if at := slices.Index(found, c); at >= 0 {
				row[i] = asText(values[at])
			}
		}
		data.AddRow(table, row)
	}
	return rows.Err()
}

// asText converts a value of SQLite, which may have any type in any column.
func asText(v any) xcauth.Text {
	switch v := v.(type) {
	case nil:
		return xcauth.Text{}
	case string:
		return xcauth.Text{Value: v, Valid: true}
	case []byte:
		return xcauth.Text{Value: string(v), Valid: true}
	case int64:
		return xcauth.Text{Value: strconv.FormatInt(v, 10), Valid: true}
	case float64:
		return xcauth.Text{Value: strconv.FormatFloat(v, 'f', -1, 64), Valid: true}
	case time.Time:
		return xcauth.Text{Value: v.UTC().Format(time.RFC3339Nano), Valid: true}
	}
	return xcauth.Text{Value: fmt.Sprint(v), Valid: true}
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
