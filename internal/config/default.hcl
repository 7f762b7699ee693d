# The built-in configuration, for a postern without a configuration file: listeners on loopback,
# at the ports of xcauth where it has them, and the file of users.

data_dir = env("POSTERN_DATA_DIR")

# Every local process can connect to these, so none of them may change accounts.
listen "ejabberd" {
  address = "127.0.0.1:23662"
  changes = false
}

listen "generic" {
  address = "127.0.0.1:23663"
  changes = false
}

listen "tcp_table" { address = "127.0.0.1:23665" }
listen "socketmap" { address = "127.0.0.1:23667" }

listen "saslauthd" {
  address        = "127.0.0.1:23666"
  default_domain = "localhost"
}

listen "saslauthd-unix" {
  protocol       = "saslauthd"
  address        = "unix:saslauthd.sock"
  default_domain = "localhost"
}

listen "dovecot" {
  address        = "127.0.0.1:23668"
  default_domain = "localhost"
}

listen "dovecot_userdb" {
  address        = "unix:userdb.sock"
  default_domain = "localhost"
}

listen "http" {
  address        = "unix:http.sock"
  default_domain = "localhost"
}

backend "users" "local" { path = "users" }

domain "*" {
  backends = [backend.users.local]
  local    = [] # beside those of the users file
  cache { storage = "disk" }
}
