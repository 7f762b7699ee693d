// Package scramtest has the client's side of SCRAM, for tests.
package scramtest

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Client is a client with a password. Tests change the fields between the steps.
type Client struct {
	Mechanism string
	User      string
	Password  string
	GS2       string // header; empty: n,,
	Binding   string // data of the channel binding
	Nonce     string // of the client; after Final, that of the exchange

	// Signature is what the server-final-message must be, after Final.
	Signature string
}

func (c *Client) hash() func() hash.Hash {
	if strings.HasPrefix(c.Mechanism, "SCRAM-SHA-1") {
		return sha1.New
	}
	return sha256.New
}

// First returns the client-first-message.
func (c *Client) First() string {
	if c.GS2 == "" {
		c.GS2 = "n,,"
	}
	if c.Nonce == "" {
		c.Nonce = "fyko+d2lbbFgONRv9qkxdawL"
	}
	return c.GS2 + c.bare()
}

func (c *Client) bare() string {
	return "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.User) + ",r=" + c.Nonce
}

// Final returns the client-final-message for a server-first-message, which must be well-formed.
func (c *Client) Final(challenge string) string {
	bare := c.bare()
	fields := strings.Split(challenge, ",")
	if len(fields) != 3 {
		return ""
	}
	nonce, _ := strings.CutPrefix(fields[0], "r=")
	encoded, _ := strings.CutPrefix(fields[1], "s=")
	salt, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	count, _ := strings.CutPrefix(fields[2], "i=")
	iterations, _ := strconv.Atoi(count)
	h := c.hash()
	salted, err := pbkdf2.Key(h, c.Password, salt, iterations, h().Size())
	if err != nil {
		return ""
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(h, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	c.Nonce = nonce
	without := fmt.Sprintf("c=%s,r=%s", base64.StdEncoding.EncodeToString([]byte(c.GS2+c.Binding)), nonce)
	message := bare + "," + challenge + "," + without
	client := mac(salted, "Client Key")
	d := h()
	d.Write(client)
	subtle.XORBytes(client, client, mac(d.Sum(nil), message))
	c.Signature = "v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), message))
	return without + ",p=" + base64.StdEncoding.EncodeToString(client)
}
