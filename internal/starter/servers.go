package starter

// server is a program that asks postern. Its lines are those of the manual, which a test compares.
type server struct {
	name      string
	listeners []string // blocks of the configuration
	user      string   // that starts postern pipe, which asks at the relay listener
	places    []Place
	commands  []string // SECRET is the file of httpSecret
	perDomain bool     // the lines are repeated for each domain
	looksUp   bool     // it asks whether users exist that have not logged in
	byHTTP    bool     // it sends httpSecret
	topic     string   // of the manual's page with the whole recipe
}

// Place is where lines go.
type Place struct {
	Where string // file and place
	Text  string
}

// httpSecret is the file of the secret of a listener "http", beside the configuration.
const httpSecret = "http.secret"

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
		perDomain: true,
		places: []Place{{"/etc/prosody/conf.d/DOMAIN.cfg.lua", `VirtualHost "DOMAIN"
authentication = "postern"
`}},
	},
	{
		name: "ejabberd", topic: "ejabberd",
		user: "ejabberd",
		places: []Place{{"/etc/ejabberd/ejabberd.yml", `auth_method: external
extauth_program: "/usr/bin/postern pipe --protocol ejabberd"
auth_use_cache: false
`}},
	},
	{
		name: "postfix", topic: "mail", looksUp: true,
		listeners: []string{dovecotAuth, `listen "socketmap" { # lookup tables: recipients, domains, senders
  address             = "127.0.0.1:23667"
  recipient_delimiter = "+" # as in main.cf: alice+news is alice
}
`},
		places: []Place{{"/etc/postfix/main.cf", `smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:23668
virtual_mailbox_domains = socketmap:inet:127.0.0.1:23667:domain
virtual_mailbox_maps = socketmap:inet:127.0.0.1:23667:mailbox
smtpd_sender_login_maps = socketmap:inet:127.0.0.1:23667:login
`}},
	},
	{
		name: "exim", topic: "exim", listeners: []string{dovecotAuth},
		places: []Place{{`Exim's configuration, after "begin authenticators" (exim4-daemon-heavy)`, `plain_postern:
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
`}},
	},
	{
		name: "dovecot", topic: "mail", byHTTP: true,
		listeners: []string{`listen "http" { # logins and users of Dovecot, which asks by Lua
  address        = "127.0.0.1:23670"
  secret         = SECRET # Dovecot sends it
  default_domain = "DOMAIN" # of logins without a domain
  userdb {
    uid  = 5000 # of vmail
    gid  = 5000
    home = "/var/vmail/%{domain}/%{user}"
  }
}
`},
		places: []Place{
			{"/etc/dovecot/conf.d/99-postern.conf, for Dovecot 2.3 (Debian 12, package dovecot-auth-lua)", `passdb {
  driver = lua
  args = file=/usr/share/postern/dovecot/postern.lua blocking=yes
}
userdb {
  driver = lua
  args = file=/usr/share/postern/dovecot/postern.lua blocking=yes
}
`},
			{"the same file, for Dovecot 2.4 (Debian 13, package dovecot-auth-lua)", `passdb lua {
  lua_file = /usr/share/postern/dovecot/postern.lua
}
userdb lua {
  lua_file = /usr/share/postern/dovecot/postern.lua
}
`},
		},
		commands: []string{
			`sudo useradd --uid 5000 --user-group --create-home --home-dir /var/vmail --shell /usr/sbin/nologin vmail`,
			`sudo sed -i 's/^!include auth-system/#&/' /etc/dovecot/conf.d/10-auth.conf`,
			`sudo sh -c 'printf "return { url = \"http://127.0.0.1:23670\", secret = \"%s\" }\n" "$(cat "$0")" | install -m 640 -g dovecot /dev/stdin /etc/dovecot/postern.lua' SECRET`,
			`sudo systemctl restart dovecot`,
		},
	},
	{
		name: "cyrus", topic: "cyrus",
		listeners: []string{`listen "saslauthd" { # for Cyrus SASL, in place of saslauthd
  address        = "unix:/run/saslauthd/mux"
  group          = "sasl"
  default_domain = "DOMAIN" # of logins without a domain
}
`},
		places: []Place{{"/etc/imapd.conf", `sasl_pwcheck_method: saslauthd
sasl_mech_list: PLAIN LOGIN
sasl_saslauthd_path: /run/saslauthd/mux
`}},
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
