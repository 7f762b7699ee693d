package migrate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/xcauth"
)

// database makes a SQLite database by statements.
func database(t *testing.T, statements string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "-x y?%.sqlite3")
	cmd := exec.Command("sqlite3", "-bail", "./"+filepath.Base(file))
	cmd.Dir, cmd.Stdin = filepath.Dir(file), strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run scripts/setup.sh: %v\n%s", err, out)
	}
	return file
}

// Each program reads values of any type and any text, rows in the order of their keys, and NULL for columns that
// are not there. Tables that are not there have no rows.
func TestSQLitePrograms(t *testing.T) {
	file := database(t, `CREATE TABLE rosterinfo (more TEXT, jid TEXT PRIMARY KEY, fullname, grouplist BLOB);
INSERT INTO rosterinfo VALUES ('x', 'b@dom.example', 'A "B" | -=é' || char(10) || '''', x'4b6576690900');
INSERT INTO rosterinfo VALUES ('x', 'a@dom.example', 42, NULL);
INSERT INTO rosterinfo VALUES ('x', 'c@dom.example', 1.5, '');
CREATE TABLE rostergroups (groupname TEXT PRIMARY KEY);
INSERT INTO rostergroups VALUES ('Work@dom.example');
`)
	text := func(s string) xcauth.Text { return xcauth.Text{Value: s, Valid: true} }
	want := fmt.Sprint([][]xcauth.Text{
		{text("a@dom.example"), text("42"), {}},
		{text("b@dom.example"), text("A \"B\" | -=é\n'"), text("Kevi\t\x00")},
		{text("c@dom.example"), text("1.5"), text("")},
	})
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range sqlitePrograms {
		rows, err := sqliteRows(t.Context(), program, file, tableQuery(xcauth.TableRosterUsers, []string{"more", "jid", "fullname", "grouplist"}))
		if got := fmt.Sprint(rows); err != nil || got != want {
			t.Errorf("%s: %v, %q, want %q", program[0], err, got, want)
		}
		rows, err = sqliteRows(t.Context(), program, file, tableQuery(xcauth.TableGroups, []string{"groupname"}))
		if err != nil || fmt.Sprint(rows) != fmt.Sprint([][]xcauth.Text{{text("Work@dom.example"), {}}}) {
			t.Errorf("%s: %v, %v", program[0], err, rows)
		}
		if _, err := sqliteRows(t.Context(), program, file, tableQuery(xcauth.TableAccounts, []string{"other"})); err == nil || !strings.Contains(err.Error(), "no such ") {
			t.Errorf("%s: a table that is not xcauth's: %v", program[0], err)
		}
		if _, err := sqliteRows(t.Context(), program, "sqlite_test.go", "SELECT 1 FROM sqlite_master"); err == nil || !strings.Contains(err.Error(), "not a database") {
			t.Errorf("%s: a text: %v", program[0], err)
		}
		if rows, err := sqliteRows(t.Context(), program, file, "DELETE FROM rostergroups"); err == nil {
			t.Errorf("%s: it has changed the database: %v", program[0], rows)
		}
	}
	data := new(xcauth.Data)
	if err := readSQLite(t.Context(), file, data); err != nil {
		t.Fatal(err)
	}
	if len(data.RosterUsers) != 3 || data.RosterUsers["b@dom.example"] == nil || len(data.Groups) != 1 {
		t.Errorf("%+v", data)
	}
	if after, err := os.Stat(file); err != nil || after.ModTime() != before.ModTime() {
		t.Errorf("the file has changed: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("files beside it: %v", left)
	}
}

// Without a program that reads it, the error names the package of one.
func TestNoSQLite(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := readSQLite(t.Context(), file, new(xcauth.Data))
	if err == nil || !strings.Contains(err.Error(), "sudo apt install sqlite3") || !strings.Contains(err.Error(), "sqlite3 nor python3") {
		t.Errorf("%v", err)
	}
}
