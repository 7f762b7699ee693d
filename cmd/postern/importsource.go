package main

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

	"postern/internal/xcauth"
)

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
			return fmt.Errorf("database %s, table %s: %w: is it xcauth's, and may you read it?", path, table, err)
		}
	}
	return nil
}

// readTable reads a table, which may be missing, as may be any of its columns but the key.
func readTable(ctx context.Context, db *sql.DB, table string, data *xcauth.Data) error {
	there, err := columnsOf(ctx, db, table)
	if err != nil || len(there) == 0 {
		return err
	}
	columns := xcauth.Columns(table)
	if !slices.Contains(there, columns[0]) {
		return fmt.Errorf("it has no column %s", columns[0])
	}
	terms := slices.Clone(columns)
	for i, c := range terms {
		if !slices.Contains(there, c) {
			terms[i] = "NULL"
		}
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(terms, ", ")+" FROM "+table+" ORDER BY 1")
	if err != nil {
		return err
	}
	defer rows.Close()
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		row := make([]xcauth.Text, len(values))
		for i, v := range values {
			row[i] = asText(v)
		}
		data.AddRow(table, row)
	}
	return rows.Err()
}

// columnsOf lists the columns of a table; none if there is no such table.
func columnsOf(ctx context.Context, db *sql.DB, table string) (names []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT name FROM pragma_table_info(?)", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// asText is a value of SQLite, which may be of any type in any column.
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

// readDump adds the records of a file of db_dump's output, or of standard input, to data.
func (a *app) readDump(path string, data *xcauth.Data) error {
	in := a.in
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

// absent reports whether a file is not there.
func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
