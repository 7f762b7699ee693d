package xcauth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// Domain is a row of the domain table: a domain with a server of its own.
type Domain struct {
	Name          string // canonical
	URL           string
	Secret        auth.Secret
	AuthDomain    string // the domain's name at the server; empty: its own
	Contact       string // the registrant's address
	First, Latest time.Time
}

// Account is a row of the password cache.
type Account struct {
	ID    auth.Identity
	Hash  string
	First time.Time // first verified by the server
	Last  time.Time // last verified by the server
	Used  time.Time // last used
}

// RosterUser is a user of ejabberd's shared rosters.
type RosterUser struct {
	ID     auth.Identity
	Named  bool
	Name   string
	Groups []string // of the user's own logins; sorted
}

// Group is a shared roster group as xcauth recorded it. ejabberd may have another version, since
// xcauth recorded it even if ejabberd did not accept it.
type Group struct {
	Name, Domain string
	Members      []string // addresses as written, sorted
}

// Skipped is a row that cannot be used.
type Skipped struct{ Table, Key, Why string }

// Data is the content of a database. The zero value is empty and ready for use.
type Data struct {
	Domains     []Domain
	Accounts    []Account
	RosterUsers map[string]*RosterUser // by address
	Groups      []Group
	Skipped     []Skipped
}

// The tables of the database.
const (
	TableDomains     = "domains"
	TableAccounts    = "authcache"
	TableRosterUsers = "rosterinfo"
	TableGroups      = "rostergroups"
)

// Text is a value that may be NULL.
type Text struct {
	Value string
	Valid bool
}

// Columns returns the columns of a table that AddRow needs, the key first.
func Columns(table string) []string {
	switch table {
	case TableDomains:
		return []string{"xmppdomain", "authsecret", "authurl", "authdomain", "regcontact", "regfirst", "reglatest"}
	case TableAccounts:
		return []string{"jid", "pwhash", "firstauth", "remoteauth", "anyauth"}
	case TableRosterUsers:
		return []string{"jid", "fullname", "grouplist"}
	case TableGroups:
		return []string{"groupname", "userlist"}
	}
	return nil
}

// Tables returns the tables of the database.
func Tables() []string { return []string{TableDomains, TableAccounts, TableRosterUsers, TableGroups} }

// AddRow adds a row of a table, with the values of Columns.
func (d *Data) AddRow(table string, row []Text) {
	if len(row) != len(Columns(table)) || len(row) == 0 {
		return
	}
	v := make([]string, len(row))
	for i := range row {
		v[i] = row[i].Value
	}
	var err error
	switch table {
	case TableDomains:
		err = d.addDomain(v)
	case TableAccounts:
		err = d.addAccount(v[0], v[1], v[2], v[3], v[4])
	case TableRosterUsers:
		err = d.addRosterUser(v[0], row[1], row[2])
	case TableGroups:
		err = d.addGroup(v[0], v[1])
	}
	if err != nil {
		d.skip(table, v[0], err)
	}
}

func (d *Data) skip(table, key string, why error) {
	if len(key) > 200 {
		key = key[:200]
	}
	d.Skipped = append(d.Skipped, Skipped{table, strconv.Quote(key), why.Error()})
}

func (d *Data) addDomain(v []string) error {
	name, err := auth.FoldDomain(v[0])
	if err != nil {
		return err
	}
	if name == "*" {
		return errors.New("it is not a domain")
	}
	if err := CheckURL(v[2]); err != nil {
		return err
	}
	row := Domain{Name: name, URL: v[2], Secret: auth.NewSecret(v[1]), AuthDomain: v[3], Contact: v[4]}
	switch {
	case v[1] == "":
		return errors.New("it has no secret")
	case !plainSecret(v[1]):
		return errors.New("its secret is not a line of text")
	case v[3] == v[0] || v[3] == name:
		row.AuthDomain = ""
	case v[3] != "":
		if err := auth.CheckDomain(v[3]); err != nil {
			return fmt.Errorf("authdomain: %w", err)
		}
	}
	row.First, _ = parseTime(v[5])
	row.Latest, _ = parseTime(v[6])
	if slices.ContainsFunc(d.Domains, func(other Domain) bool { return other.Name == name }) {
		return errors.New("another row has the same domain in another spelling")
	}
	d.Domains = append(d.Domains, row)
	return nil
}

// plainSecret reports whether a configuration can hold a secret.
func plainSecret(text string) bool {
	return auth.CheckSecret(text) == nil && !strings.ContainsAny(text, "\r\n")
}

// CheckURL reports why a URL cannot be a backend's. Its errors do not show the URL, which may hold
// a password.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, !utf8.ValidString(text), u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		return errors.New("its URL is not an absolute http or https URL")
	case u.User != nil:
		return errors.New("its URL has a user name or password, which would be logged")
	case strings.Contains(text, "#"):
		return errors.New("its URL has a fragment")
	}
	return nil
}

func (d *Data) addAccount(jid, hash, first, last, used string) error {
	id, err := identity(jid)
	if err != nil {
		return err
	}
	if err := passhash.Check(hash); err != nil || !strings.HasPrefix(hash, "$2") {
		return passhash.ErrHash
	}
	row := Account{ID: id, Hash: hash}
	if row.Last, err = parseTime(last); err != nil || row.Last.IsZero() {
		return fmt.Errorf("when the server last verified it: %w", errors.Join(err, errTime))
	}
	if row.First, err = parseTime(first); err != nil || row.First.IsZero() || row.First.After(row.Last) {
		row.First = row.Last
	}
	if row.Used, err = parseTime(used); err != nil || row.Used.Before(row.Last) {
		row.Used = row.Last
	}
	d.Accounts = append(d.Accounts, row)
	return nil
}

func (d *Data) addRosterUser(jid string, name, groups Text) error {
	id, err := identity(jid)
	if err != nil {
		return err
	}
	p := d.rosterUser(id)
	if name.Valid {
		p.Named, p.Name = true, name.Value
	}
	for _, g := range splitList(groups.Value) {
		if !slices.Contains(p.Groups, g) {
			p.Groups = append(p.Groups, g)
		}
	}
	slices.Sort(p.Groups)
	return nil
}

func (d *Data) rosterUser(id auth.Identity) *RosterUser {
	if d.RosterUsers == nil {
		d.RosterUsers = map[string]*RosterUser{}
	}
	p := d.RosterUsers[id.String()]
	if p == nil {
		p = &RosterUser{ID: id}
		d.RosterUsers[id.String()] = p
	}
	return p
}

// addGroup adds a group with the key NAME@DOMAIN. It leaves out members that are not addresses.
func (d *Data) addGroup(key, members string) error {
	i := strings.LastIndexByte(key, '@')
	if i <= 0 {
		return errors.New("it is not written as group@domain")
	}
	domain, err := auth.FoldDomain(key[i+1:])
	if err != nil {
		return err
	}
	g := Group{Name: key[:i], Domain: domain}
	for _, m := range splitList(members) {
		id, err := identity(colonless(m))
		if err != nil {
			d.skip(TableGroups, key, fmt.Errorf("a member: %w", err))
			continue
		}
		g.Members = append(g.Members, id.String())
	}
	slices.Sort(g.Members)
	g.Members = slices.Compact(g.Members)
	d.Groups = append(d.Groups, g)
	return nil
}

// splitList splits a list separated by tabs.
func splitList(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\t"), func(s string) bool { return s == "" })
}

// identity parses user@domain. It splits at the last '@', as postern does everywhere.
func identity(jid string) (auth.Identity, error) {
	i := strings.LastIndexByte(jid, '@')
	if i < 0 {
		return auth.Identity{}, errors.New("it is not written as user@domain")
	}
	return auth.NewIdentity(jid[:i], jid[i+1:])
}

// colonless turns user:domain, the form of Berkeley DB keys, into user@domain.
func colonless(key string) string {
	if i := strings.LastIndexByte(key, ':'); i >= 0 && !strings.Contains(key, "@") {
		return key[:i] + "@" + key[i+1:]
	}
	return key
}

// AddRecord adds a record of one of the Berkeley DB files of versions before 2. The record itself
// shows which file it is from:
//
//	user:domain         hash TAB first TAB remote TAB any TAB rest
//	domain              secret TAB url TAB authdomain [TAB extra]
//	FNC:user:domain     full name
//	LIG:user:domain     groups of the user
//	RGC:group:domain    members of the group
//	RH:user:domain      hash of a response, which is not needed
func (d *Data) AddRecord(key, value string) {
	fields := strings.Split(value, "\t")
	kind, rest, _ := strings.Cut(key, ":")
	var err error
	table := TableRosterUsers
	switch {
	case key == "" && value == "":
		return // versions before 2 marked a database like this as not to be used
	case passhash.Check(fields[0]) == nil && len(fields) >= 4:
		table, err = TableAccounts, d.addAccount(colonless(key), fields[0], fields[1], fields[2], fields[3])
	case kind == "RH" || kind == "CACHE":
		return
	case kind == "FNC" && rest != "":
		err = d.addRosterUser(colonless(rest), Text{value, true}, Text{})
	case kind == "LIG" && rest != "":
		err = d.addRosterUser(colonless(rest), Text{}, Text{value, true})
	case kind == "RGC" && rest != "":
		table, err = TableGroups, d.addGroup(colonless(rest), value)
	case len(fields) >= 2 && !strings.Contains(key, ":"):
		row := []string{key, fields[0], fields[1], "", "", "", ""}
		if len(fields) >= 3 {
			row[3] = fields[2]
		}
		table, err = TableDomains, d.addDomain(row)
	default:
		table, err = "record", errors.New("not a kind of record that xcauth has")
	}
	if err != nil {
		d.skip(table, key, err)
	}
}

var errTime = errors.New("it is not a time")

// maxTime is the latest time that is accepted, in Unix seconds: in the year 2242.
const maxTime = 1 << 33

// parseTime reads a time as SQLite and Python write it: UTC text with a space or a T, with or
// without a fraction and a zone, or Unix seconds. Empty text is the zero time.
func parseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "None" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n >= 0 && n < maxTime) {
			return time.Time{}, errTime
		}
		return time.UnixMilli(int64(n * 1000)).UTC(), nil
	}
	for _, form := range [...]string{time.DateTime, "2006-01-02T15:04:05", time.DateTime + "Z07:00", time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil && t.Year() >= 1970 && t.Unix() < maxTime {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errTime
}
