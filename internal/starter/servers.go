package starter

// server is a program that asks postern. Its lines are those of the manual, which a test compares.
type server struct {
	name      string
	listeners []string // blocks of the configuration
	user      string   // that starts postern pipe or postern checkpassword, which ask at the relay listener
	where     string   // the lines go there
	lines     string
	perDomain bool   // the lines are repeated for each domain
	looksUp   bool   // it asks whether users exist that have not logged in
	topic     string // of the manual's page with the whole recipe
}

// dovecotAuth is for several servers.
const dovecotAuth = `listen "dovecot" { # logins, in the protocol of Dovecot's auth service
  address        = "127.0.0.1:23668"
  default_domain = "DOMAIN" # of logins without a domain
}
`

// servers are in the order of the configuration.
var servers = []server{
	{
		name: "prosody", topic: "prosody",
		listeners: []string{`listen "ejabberd" { # for Prosody's mod_auth_postern
  address = "127.0.0.1:23662"
  changes = false # true: clients may change passwords and register; so may every program of this machine
}
`},
		where: "/etc/prosody/conf.d/DOMAIN.cfg.lua", perDomain: true,
		lines: `VirtualHost "DOMAIN"
authentication = "postern"
`,
	},
	{
		name: "ejabberd", topic: "ejabberd",
		user:  "ejabberd",
		where: "/etc/ejabberd/ejabberd.yml",
		lines: `auth_method: external
extauth_program: "/usr/bin/postern pipe --protocol ejabberd"
auth_use_cache: false
`,
	},
	{
		name: "postfix", topic: "mail", looksUp: true,
		listeners: []string{dovecotAuth, `listen "socketmap" { # lookup tables: recipients, domains, senders
  address             = "127.0.0.1:23667"
  recipient_delimiter = "+" # as in main.cf: alice+news is alice
}
`},
		where: "/etc/postfix/main.cf",
		lines: `smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:23668
virtual_mailbox_domains = socketmap:inet:127.0.0.1:23667:domain
virtual_mailbox_maps = socketmap:inet:127.0.0.1:23667:mailbox
smtpd_sender_login_maps = socketmap:inet:127.0.0.1:23667:login
`,
	},
	{
		name: "exim", topic: "exim", listeners: []string{dovecotAuth},
		where: `Exim's configuration, after "begin authenticators" (exim4-daemon-heavy)`,
		lines: `plain_postern:
  driver = dovecot
  public_name = PLAIN
  server_socket = 127.0.0.1 23668
  server_set_id = $auth1
  server_advertise_condition = ${if def:tls_in_cipher}
login_postern:
  driver = dovecot
  public_name = LOGIN
  server_socket = 127.0.0.1 23668
  server_set_id = $auth1
  server_advertise_condition = ${if def:tls_in_cipher}
`,
	},
	{
		name: "dovecot", topic: "mail",
		user:  "dovecot",
		where: "/etc/dovecot/conf.d/99-postern.conf (Dovecot 2.3; 2.4 has no such driver)",
		lines: `passdb {
  driver = checkpassword
  args = /usr/bin/postern checkpassword
}
userdb {
  driver = static
  args = allow_all_users=yes uid=vmail gid=vmail home=/var/vmail/%d/%n
}
service auth {
  vsz_limit = 4G
}
`,
	},
	{
		name: "cyrus", topic: "cyrus",
		listeners: []string{`listen "saslauthd" { # for Cyrus SASL, in place of saslauthd
  address        = "unix:/run/saslauthd/mux"
  group          = "sasl"
  default_domain = "DOMAIN" # of logins without a domain
}
`},
		where: "/etc/imapd.conf",
		lines: `sasl_pwcheck_method: saslauthd
sasl_mech_list: PLAIN LOGIN
sasl_saslauthd_path: /run/saslauthd/mux
`,
	},
}

// Servers returns the names of the servers that a first configuration can be for.
func Servers() (names []string) {
	for i := range servers {
		names = append(names, servers[i].name)
	}
	return names
}

func find(name string) *server {
	for i := range servers {
		if servers[i].name == name {
			return &servers[i]
		}
	}
	return nil
}
