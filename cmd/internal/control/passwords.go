package control

import (
	"context"
	"fmt"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/unixtime"
)

// PasswordReply is the answer to the calls about app passwords.
type PasswordReply struct {
	Secret    string          `json:"secret,omitempty"` // add: shown this once
	Passwords []ShownPassword `json:"passwords"`        // all, the one that was made, or those that were changed
}

// ShownPassword is an app password without its secret.
type ShownPassword struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Services    []string   `json:"services"` // none: all
	State       string     `json:"state"`    // alive, expired, revoked
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires,omitempty"`
	Revoked     *time.Time `json:"revoked,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"`
	LastService string     `json:"last_service,omitempty"`
	LastFront   string     `json:"last_front,omitempty"` // name of the listener
	LastClient  string     `json:"last_client,omitempty"`
}

func showPassword(p *apppassword.Password, now unixtime.Time) ShownPassword {
	at := func(t unixtime.Time) *time.Time {
		if t == 0 {
			return nil
		}
		shown := t.Go().UTC()
		return &shown
	}
	s := ShownPassword{
		ID: p.ID, Name: p.Name, Services: append([]string{}, p.Services...), State: "alive", Created: p.Created.Go().UTC(),
		Expires: at(p.Expires), Revoked: at(p.Revoked), LastUsed: at(p.Last.At),
		LastService: p.Last.Service, LastFront: p.Last.Front, LastClient: p.Last.Client,
	}
	switch {
	case p.Revoked != 0:
		s.State = "revoked"
	case p.Expired(now):
		s.State = "expired"
	}
	return s
}

// Passwords are the calls about app passwords. Each changes a record of an account, or shows it. ended
// reports that an app password for XMPP is not valid any more.
var Passwords = map[string]func(r Request, o apppassword.Owner, a *apppassword.Account, now time.Time, reply *PasswordReply) (changed, ended bool, err error){
	"/v1/password/add": func(r Request, o apppassword.Owner, a *apppassword.Account, now time.Time, reply *PasswordReply) (bool, bool, error) {
		n := apppassword.New{Name: r.Name, Services: r.Services}
		if r.Expires != nil {
			n.Expires = *r.Expires
		}
		p, s, err := a.Add(o.Key, o.ID.Domain, o.ID.User, n, unixtime.At(now))
		if err != nil {
			return false, false, err
		}
		*reply = PasswordReply{Secret: s.Show().Reveal()}
		reply.add(now, p)
		return true, false, nil
	},
	"/v1/password/list": func(_ Request, o apppassword.Owner, a *apppassword.Account, now time.Time, reply *PasswordReply) (bool, bool, error) {
		reply.add(now, a.Of(o.ID.User)...)
		return false, false, nil
	},
	"/v1/password/revoke": func(r Request, o apppassword.Owner, a *apppassword.Account, now time.Time, reply *PasswordReply) (changed, ended bool, err error) {
		list, err := a.Revoke(o.ID.User, r.Ref, unixtime.At(now))
		reply.add(now, list...)
		for i := range list {
			ended = ended || list[i].For("xmpp")
		}
		return len(list) > 0, ended, err
	},
	"/v1/password/expire": func(r Request, o apppassword.Owner, a *apppassword.Account, now time.Time, reply *PasswordReply) (bool, bool, error) {
		end := time.Time{}
		if r.Expires != nil {
			end = *r.Expires
		}
		p, err := a.SetExpiry(o.ID.User, r.Ref, end)
		if err != nil {
			return false, false, err
		}
		reply.add(now, p)
		return true, p.Expired(unixtime.At(now)) && p.For("xmpp"), nil
	},
}

func (r *PasswordReply) add(now time.Time, list ...apppassword.Password) {
	r.Passwords = []ShownPassword{}
	for i := range list {
		r.Passwords = append(r.Passwords, showPassword(&list[i], unixtime.At(now)))
	}
}

// password carries out a call about app passwords.
func (s *Server) password(path string) call {
	return func(ctx context.Context, r Request) (any, error) {
		id, err := r.account()
		if err != nil {
			return nil, err
		}
		var reply PasswordReply
		err = s.daemon.Broker().AppPasswords(ctx, id, func(o apppassword.Owner, a *apppassword.Account, now time.Time) (bool, error) {
			changed, ended, err := Passwords[path](r, o, a, now, &reply)
			if err == nil && ended { // it is in force from here on, whether it can be stored or is waited for
				s.daemon.Broker().NoteRevoked(o.ID)
			}
			return changed, err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		if reply.Secret != "" { // an error has been logged, and takes nothing from the password
			_ = s.daemon.Broker().KeyAppPassword(ctx, id, auth.NewSecret(reply.Secret))
		}
		return reply, nil
	}
}
