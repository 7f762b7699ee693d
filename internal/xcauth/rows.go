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
	Contact       string // of who registered it
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

// RosterUser is what ejabberd was told of a user.
type RosterUser struct {
	ID     auth.Identity
	Named  bool
	Name   string
	Groups []string // of the user's own logins; sorted
}

// Group is what ejabberd was to be told of a group of a domain: xcauth noted it even if that
// failed.
type Group struct {
	Name, Domain string
	Members      []string // addresses as written, sorted
}

// Skipped is a row that cannot be used.
type Skipped struct{ Table, Key, Why string }

// Data is everything that was found. The zero value is ready for use.
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

// Text is a value that may be missing.
type Text struct {
	Value string
	Valid bool
}

// Columns are those of a table that matter here, the key first.
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

// Tables are those of the database.
func Tables() []string { return []string{TableDomains, TableAccounts, TableRosterUsers, TableGroups} }

// AddRow takes a row of a table, with the values of Columns.
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
		return errors.New("no domain is called so")
	}
	if err := CheckURL(v[2]); err != nil {
		return err
	}
	row := Domain{Name: name, URL: v[2], Secret: auth.NewSecret(v[1]), AuthDomain: v[3], Contact: v[4]}
	switch {
	case v[1] == "":
		return errors.New("it has no secret")
	case !plainSecret(v[1]):
		return errors.New("its secret is no line of text")
	case v[3] == v[0] || v[3] == name:
		row.AuthDomain = ""
	case v[3] != "":
		if err := auth.CheckDomain(v[3]); err != nil {
			return fmt.Errorf("authdomain: %w", err)
		}
	}
	row.First, _ = ParseTime(v[5])
	row.Latest, _ = ParseTime(v[6])
	for i := range d.Domains {
		if d.Domains[i].Name == name {
			return errors.New("another row names the same domain in another spelling")
		}
	}
	d.Domains = append(d.Domains, row)
	return nil
}

// plainSecret reports whether a secret can stand in a configuration.
func plainSecret(text string) bool {
	return auth.CheckSecret(text) == nil && !strings.ContainsAny(text, "\r\n")
}

// CheckURL reports why a server cannot be asked at an address. The address may hold a password
// and is not shown.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, !utf8.ValidString(text), u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		return errors.New("its URL is not an absolute http or https URL")
	case u.User != nil:
		return errors.New("its URL holds a user name or password, which would be logged")
	case strings.Contains(text, "#"):
		return errors.New("its URL holds a fragment")
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
	if row.Last, err = ParseTime(last); err != nil || row.Last.IsZero() {
		return fmt.Errorf("when the server last verified it: %w", errors.Join(err, errTime))
	}
	if row.First, err = ParseTime(first); err != nil || row.First.IsZero() || row.First.After(row.Last) {
		row.First = row.Last
	}
	if row.Used, err = ParseTime(used); err != nil || row.Used.Before(row.Last) {
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

// addGroup takes a group, whose key is NAME@DOMAIN. Members that cannot be addresses are left
// out, as they can be in no group.
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

// splitList splits a list that is joined with tabs.
func splitList(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\t"), func(s string) bool { return s == "" })
}

// identity reads user@domain, split at the last '@' as postern reads all addresses.
func identity(jid string) (auth.Identity, error) {
	i := strings.LastIndexByte(jid, '@')
	if i < 0 {
		return auth.Identity{}, errors.New("it is not written as user@domain")
	}
	return auth.NewIdentity(jid[:i], jid[i+1:])
}

// colonless turns user:domain, as Berkeley DB keys have it, into user@domain.
func colonless(key string) string {
	if i := strings.LastIndexByte(key, ':'); i >= 0 && !strings.Contains(key, "@") {
		return key[:i] + "@" + key[i+1:]
	}
	return key
}
