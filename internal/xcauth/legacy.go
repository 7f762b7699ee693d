package xcauth

import (
	"errors"
	"strings"

	"postern/internal/auth/passhash"
)

// AddRecord takes a record of one of the Berkeley DB files of versions before 2. Which of them
// it is from shows in the record itself:
//
//	user:domain         hash TAB first TAB remote TAB any TAB rest
//	domain              secret TAB url TAB authdomain [TAB extra]
//	FNC:user:domain     full name
//	LIG:user:domain     groups of the user
//	RGC:group:domain    members of the group
//	RH:user:domain      hash of an answer, which is not needed
func (d *Data) AddRecord(key, value string) {
	fields := strings.Split(value, "\t")
	kind, rest, _ := strings.Cut(key, ":")
	var err error
	table := TableRosterUsers
	switch {
	case key == "" && value == "":
		return // how versions before 2 marked a database that is not to be used
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
		table, err = "record", errors.New("xcauth has no records of this kind")
	}
	if err != nil {
		d.skip(table, key, err)
	}
}
