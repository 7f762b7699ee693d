package config

import "slices"

// BlockReference is the vocabulary of a kind of block, for the manual.
type BlockReference struct {
	Path       string   // the types of its parents, its own, and its kind: "domain token jsxc"; "" is the file
	Labels     []string // meanings of the labels
	Attributes []AttributeReference
	Blocks     []string // types of the blocks in it
}

// AttributeReference describes an attribute.
type AttributeReference struct {
	Name    string
	Type    string
	Default string // as the file has it; what happens without the line, in parentheses; "" if the line is needed
	Since   string // the first version that has it
}

// Types of values, as the manual calls them.
const (
	aText     = "text"
	aTextList = "text or list of texts"
	aSecret   = "secret"
	aSecrets  = "secret or list of secrets"
	aNumber   = "number"
	aFlag     = "true or false"
	aDuration = "duration"
	aPath     = "path"
)

// detail is what the reference has of an attribute besides its name.
type detail struct{ kind, absent, since string }

// firstVersion had all attributes for which details has no version.
const firstVersion = "0.1.0"

// details describes attributes by their name or, where a name means different things, by the path of the
// block and their name. Tests compare it with what the parser does.
var details = map[string]detail{
	"data_dir":      {aPath, `"/var/lib/postern"`, ""},
	"drain_timeout": {aDuration, `"10s"`, ""},

	"protocol":            {aText, "(the label)", ""},
	"listen address":      {aText, `(none: needed; "unix:/run/postern/relay.sock" for relay)`, ""},
	"mode":                {aText, `"0660"`, ""}, // "0666" with users
	"owner":               {aText, "(the user of postern)", ""},
	"group":               {aText, "(the group of postern)", ""},
	"default_domain":      {aText, "(none)", ""},
	"deadline":            {aDuration, "(depends on the protocol)", ""},
	"idle_timeout":        {aDuration, "(depends on the protocol)", ""},
	"frame_timeout":       {aDuration, `"30s"`, ""},
	"write_timeout":       {aDuration, `"10s"`, ""},
	"max_frame":           {aNumber, "(depends on the protocol)", ""},
	"pipeline":            {aNumber, "64", ""},
	"max_connections":     {aNumber, "16384", ""},
	"binary_answers":      {aFlag, "false", ""},
	"recipient_delimiter": {aText, "(none)", ""},
	"users":               {aTextList, "(any, as mode and group say)", "0.2.0"},
	"changes":             {"true, false or list of users", "false", "0.2.0"},
	"map":                 {aText, `"mailbox"`, "0.2.0"},
	"fixed_domain":        {aText, "(none)", "0.2.0"},
	"uid":                 {"text or number", "(none)", "0.2.0"},
	"gid":                 {"text or number", "(none)", "0.2.0"},
	"home":                {aText, "(none)", "0.2.0"},

	"listen secret":   {aSecret, "(none)", "0.2.0"},
	"trusted_proxies": {aTextList, `["127.0.0.0/8", "::1"]`, "0.2.0"},
	"proxy_protocol":  {aFlag, "false", "0.2.0"},
	"realm":           {aText, "(the domain)", "0.2.0"},
	"imap":            {aText, "(none)", "0.2.0"},
	"pop3":            {aText, "(none)", "0.2.0"},
	"smtp":            {aText, "(none)", "0.2.0"},
	"certificate":     {aPath, "", "0.2.0"},
	"listen tls key":  {aPath, "", "0.2.0"},
	"client_ca":       {aPath, "(none)", "0.2.0"},

	"url":                              {aText, "", ""},
	"secret":                           {aSecret, "", ""},
	"admin_user":                       {aText, "(none)", ""},
	"admin_password":                   {aSecret, "(none)", ""},
	"accept_other_id":                  {aFlag, "false", ""},
	"backend jsxc accept_other_id":     {aFlag, "false", "0.2.0"},
	"max_delay":                        {aDuration, `"1600ms"`, ""},
	"backend nextcloud max_members":    {aNumber, "10000", ""},
	"ca_file":                          {aPath, "(those of the system)", ""},
	"user_agent":                       {aText, "(postern and its version)", ""},
	"proxy":                            {aText, "(none)", "0.2.0"},
	"connect_timeout":                  {aDuration, `"5s"`, ""},
	"timeout":                          {aDuration, `"10s"`, ""},
	"max_response":                     {aNumber, "1048576", ""},
	"slots":                            {aNumber, "32", ""},
	"min_slots":                        {aNumber, "4", "0.2.0"},
	"queue":                            {aNumber, "65536", ""},
	"breaker_failures":                 {aNumber, "5", ""},
	"breaker_cooldown":                 {aDuration, `"1s"`, ""},
	"refusal_budget":                   {aNumber, "0", ""},
	"backend nextcloud refusal_budget": {aNumber, "8", ""},
	"refusal_window":                   {aDuration, `"30m"`, ""},
	"fold_case":                        {aFlag, "true", "0.2.0"},
	"backend json fold_case":           {aFlag, "false", "0.2.0"},
	"authority":                        {aText, "(none)", "0.2.0"},
	"method":                           {aText, `"GET"`, "0.2.0"},
	"backend http realm":               {aText, "(none)", "0.2.0"},
	"deny_body":                        {aText, "(none)", "0.2.0"},
	"true_at":                          {aText, "(none)", "0.2.0"},
	"service_user":                     {aText, "(none)", "0.2.0"},
	"service_password":                 {aSecret, "(none)", "0.2.0"},
	"backend http fold_case":           {aFlag, "false", "0.2.0"},
	"backend auth_http fold_case":      {aFlag, "false", "0.2.0"},
	"path":                             {aPath, `"users"`, ""},
	"unconfirmed_ttl":                  {aDuration, `"90d"`, "0.2.0"},
	"backend app_passwords key":        {aSecret, "", "0.2.0"},

	"issuer":                  {aText, "", "0.2.0"},
	"accept":                  {aTextList, `["jwt"]`, "0.2.0"},
	"audience":                {aText, "", "0.2.0"},
	"clients":                 {aTextList, "(any)", "0.2.0"},
	"client_id":               {aText, "(none)", "0.2.0"},
	"client_secret":           {aSecret, "(none)", "0.2.0"},
	"username_claim":          {aText, "", "0.2.0"},
	"username_domain":         {aFlag, "(true for \"email\")", "0.2.0"},
	"backend oidc fold_case":  {aFlag, "(false for \"sub\", else true)", "0.2.0"},
	"groups_claim":            {aText, "(none)", "0.2.0"},
	"backend oidc scim url":   {aText, "", "0.2.0"},
	"backend oidc scim token": {aSecret, "(fetched as client_id)", "0.2.0"},
	"scope":                   {aTextList, "(none)", "0.2.0"},
	"required_scope":          {aTextList, "(none)", "0.2.0"},
	"algorithms":              {aTextList, "(all that are asymmetric)", "0.2.0"},
	"leeway":                  {aDuration, `"30s"`, "0.2.0"},

	"backends":      {"list of backends", "", ""},
	"auth_domain":   {aTextList, "(the domain)", ""},
	"login":         {aTextList, `["{user}"]`, ""},
	"change_admins": {aFlag, "false", "0.2.0"},
	"local":         {aTextList, "(none)", "0.2.0"},
	"unescape_jid":  {aFlag, "false", "0.2.0"},

	"require_app_password": {"true, false or list of texts", "false", "0.2.0"},
	"scram":                {aFlag, "false", "0.2.0"},

	"groups":   {aTextList, "", "0.2.0"},
	"services": {aTextList, "(all)", "0.2.0"},

	"enabled":                    {aFlag, "true", ""},
	"user_refusals":              {aNumber, "10", ""},
	"address_refusals":           {aNumber, "30", ""},
	"window":                     {aDuration, `"10m"`, ""},
	"first_pause":                {aDuration, `"2s"`, ""},
	"longest_pause":              {aDuration, `"15m"`, ""},
	"exempt":                     {aTextList, `["127.0.0.0/8", "::1"]`, ""},
	"ttl":                        {aDuration, `"1h"`, ""},
	"domain token jsxc secrets":  {aSecrets, "(those of the jsxc backends)", ""},
	"domain token totp secrets":  {aSecrets, "", ""},
	"seed":                       {aSecret, "", ""},
	"nonce_digits":               {aNumber, "32", "0.2.0"},
	"storage":                    {aText, `"disk"`, ""},
	"query_ttl":                  {aDuration, `"1h"`, ""},
	"verify_ttl":                 {aDuration, `"1d"`, ""},
	"outage_ttl":                 {aDuration, `"1w"`, ""},
	"refused_ttl":                {aDuration, `"5m"`, ""},
	"exists_ttl":                 {aDuration, `"1h"`, ""},
	"absent_ttl":                 {aDuration, `"1m"`, ""},
	"bcrypt_cost":                {aNumber, "12", ""},
	"key":                        {aSecret, "(none)", "0.2.0"},
	"secrets":                    {aNumber, "4", ""},
	"hot_entries":                {aNumber, "100000", ""},
	"registry cache hot_entries": {aNumber, "1000", ""},
	"idle":                       {aDuration, `"15m"`, ""},
	"max_live":                   {aNumber, "10000", ""},

	"api":          {aText, "(ejabberdctl)", ""},
	"ejabberdctl":  {aPath, "(the api)", ""},
	"token":        {aSecret, "(none)", ""},
	"cut_sessions": {aFlag, "false", "0.2.0"},
	"include":      {aTextList, "(all)", ""},
	"exclude":      {aTextList, "(none)", ""},
	"foreign":      {aTextList, "(none)", "0.2.0"},
	"max_members":  {aNumber, "0", ""},
	"min_interval": {aDuration, `"1m"`, ""},
	"groups_file":  {aPath, "", ""},
	"reload":       {"list of texts", "(by prosodyctl)", ""},

	"addresses":                      {aTextList, "", "0.2.0"},
	"cluster":                        {aFlag, "false", "0.2.0"},
	"master":                         {aText, "", "0.2.0"},
	"server_name":                    {aText, "(the host of the address)", "0.2.0"},
	"store valkey tls certificate":   {aPath, "(none)", "0.2.0"},
	"store valkey tls key":           {aPath, "(none)", "0.2.0"},
	"store valkey sentinel username": {aText, "(none)", "0.2.0"},
	"username":                       {aText, "(the default user)", "0.2.0"},
	"password":                       {aSecret, "(none)", "0.2.0"},
	"prefix":                         {aText, `"postern:"`, "0.2.0"},
	"isolated":                       {aText, `"bridge"`, "0.2.0"},

	"web url":                  {aText, "", "0.2.0"},
	"privacy":                  {aFlag, "false", "0.2.0"},
	"web tls key":              {aPath, "", "0.2.0"},
	"web status address":       {aText, "", "0.2.0"},
	"web status url":           {aText, "(that of web)", "0.2.0"},
	"accounts":                 {aTextList, "(none)", "0.2.0"},
	"web status groups":        {aTextList, "(none)", "0.2.0"},
	"web status token":         {aSecret, "(none)", "0.2.0"},
	"web self_service address": {aText, "", "0.2.0"},
	"web self_service url":     {aText, "(that of web)", "0.2.0"},
	"web self_service imap":    {aText, "(none)", "0.2.0"},
	"web self_service smtp":    {aText, "(that of imap)", "0.2.0"},

	"metrics address": {aText, "", ""},
	"level":           {aText, `"info"`, ""},
	"format":          {aText, `"text"`, ""},
	"file":            {aPath, "(standard error)", ""},
	"audit file":      {aPath, "(none)", "0.2.0"},
	"syslog":          {aPath, "(none)", "0.2.0"},

	"domain roster ejabberd window":  {aDuration, `"2s"`, ""},
	"domain roster ejabberd timeout": {aDuration, `"30s"`, ""},
	"domain roster prosody window":   {aDuration, `"2s"`, ""},
	"domain roster prosody timeout":  {aDuration, `"30s"`, ""},
}

// detailOf returns the description of an attribute, and its key in details.
func detailOf(path, name string) (d detail, key string) {
	key = path + " " + name
	d, ok := details[key]
	if !ok {
		key = name
		d = details[key]
	}
	if d.since == "" {
		d.since = firstVersion
	}
	return d, key
}

// Reference lists the whole vocabulary in the order of the schema.
func Reference() []BlockReference {
	out := make([]BlockReference, len(specs))
	for i, s := range specs {
		out[i] = BlockReference{Path: s.path, Labels: s.labels, Blocks: s.blocks}
		for _, name := range slices.Concat(s.attrs, s.secrets) {
			d, _ := detailOf(s.path, name)
			out[i].Attributes = append(out[i].Attributes, AttributeReference{name, d.kind, d.absent, d.since})
		}
	}
	return out
}
