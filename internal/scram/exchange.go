package scram

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// Lifetime is how long a client may take for its proof.
const Lifetime = time.Minute

// setBack is by how much a clock must have been set back for an exchange to be none of the time it has, so that
// its state is not valid either.
const setBack = 10 * time.Minute

// serverNonce is the length of the server's part of a nonce in characters: 144 random bits.
const serverNonce = 24

// Sealer begins the exchanges of a process. It is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// NewSealer returns a Sealer with a random key.
func NewSealer() *Sealer {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCMWithRandomNonce(block) // they fail for other sizes only
	return &Sealer{aead}
}

// Client is what a login by SCRAM is about.
type Client struct {
	ID        auth.Identity // folded
	Mechanism string
	Salt      Salt     // of the account
	Bindings  []string // types of channel binding that its server offers with -PLUS; none: it offers no -PLUS
}

// bound is what the state of an exchange is bound to.
func (c *Client) bound() []byte {
	b := appendText(nil, c.ID.Domain)
	b = appendText(b, c.ID.User)
	return appendText(b, c.Mechanism)
}

// Begin answers a client-first-message with the server-first-message, and the state that Open needs: text
// without spaces. The errors are ErrMechanism, ErrMessage, ErrBinding and ErrDowngrade.
func (s *Sealer) Begin(c *Client, message string, now unixtime.Time) (challenge, state string, err error) {
	_, binds, ok := parseMechanism(c.Mechanism)
	if !ok {
		return "", "", ErrMechanism
	}
	m, err := parseFirst(message)
	switch {
	case err != nil:
		return "", "", err
	case m.flag == 'y' && len(c.Bindings) > 0:
		return "", "", ErrDowngrade
	case binds != (m.flag == 'p'), binds && !slices.Contains(c.Bindings, m.binding):
		return "", "", ErrBinding
	}
	random := make([]byte, serverNonce*3/4)
	_, _ = rand.Read(random) // never fails, see crypto/rand
	nonce := m.nonce + base64.RawStdEncoding.EncodeToString(random)
	challenge = fmt.Sprintf("r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString(c.Salt[:]), Iterations)
	b := binary.AppendVarint(nil, int64(now))
	for _, text := range [...]string{m.gs2, string(m.flag), m.bare, nonce, challenge, string(c.Salt[:])} {
		b = appendText(b, text)
	}
	return challenge, base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, b, c.bound())), nil
}

// Exchange is one that has begun.
type Exchange struct {
	hash                              Hash
	gs2, flag, bare, nonce, challenge string
	salt                              Salt
}

// Open reads the state of an exchange of the same client. The errors are ErrMechanism and ErrState.
func (s *Sealer) Open(c *Client, state string, now unixtime.Time) (*Exchange, error) {
	h, _, ok := parseMechanism(c.Mechanism)
	if !ok {
		return nil, ErrMechanism
	}
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil {
		return nil, ErrState
	}
	b, err := s.aead.Open(nil, nil, sealed, c.bound())
	if err != nil {
		return nil, ErrState
	}
	begun, n := binary.Varint(b)
	b = b[max(n, 0):]
	e, salt := &Exchange{hash: h}, ""
	for _, field := range [...]*string{&e.gs2, &e.flag, &e.bare, &e.nonce, &e.challenge, &salt} {
		*field, b = cutText(b)
	}
	if copy(e.salt[:], salt); !unixtime.Time(begun).Within(Lifetime, now) {
		return nil, ErrState
	}
	return e, nil
}

// Nonce identifies the exchange.
func (e *Exchange) Nonce() string { return e.nonce }

// Finish reads the client-final-message. binding is the data of the channel binding, from the server's
// end of the connection. The errors are ErrMessage, ErrBinding and ErrNonce.
func (e *Exchange) Finish(message, binding string) (*Proof, error) {
	m, err := parseFinal(message, e.hash)
	if err != nil {
		return nil, err
	}
	want := e.gs2
	if e.flag == "p" {
		if binding == "" {
			return nil, ErrBinding
		}
		want += binding
	}
	if !hmac.Equal(m.binding, []byte(want)) {
		return nil, ErrBinding
	}
	if m.nonce != e.nonce {
		return nil, ErrNonce
	}
	return &Proof{hash: e.hash, salt: e.salt, message: e.bare + "," + e.challenge + "," + m.without, proof: m.proof}, nil
}

// Proof is a client's proof that it has a secret. It is good for its exchange alone.
type Proof struct {
	hash    Hash
	salt    Salt
	message string // AuthMessage of RFC 5802
	proof   []byte
}

// Fits reports whether the proof can be compared with keys.
func (p *Proof) Fits(k *Keys) bool { return k.Fits(p.salt) }

// Verify reports whether the proof is that of the secret with these keys, which fit. signature is then
// the server-final-message. It takes the same time either way.
func (p *Proof) Verify(k *Keys) (signature string, ok bool) {
	v := &k.verifiers[p.hash]
	sign := p.hash.hmac(v.stored, p.message)
	if len(sign) != len(p.proof) {
		return "", false
	}
	client := make([]byte, len(sign))
	subtle.XORBytes(client, p.proof, sign)
	ok = hmac.Equal(p.hash.sum(client), v.stored)
	signature = "v=" + base64.StdEncoding.EncodeToString(p.hash.hmac(v.server, p.message))
	if !ok {
		return "", false
	}
	return signature, true
}

// Refuse takes the time of Verify, for accounts without keys.
func (p *Proof) Refuse() { _, _ = p.Verify(&noKeys) }

// noKeys are well-formed keys without a secret.
var noKeys = Keys{verifiers: [Hashes]Verifier{
	SHA1:   {make([]byte, SHA1.size()), make([]byte, SHA1.size())},
	SHA256: {make([]byte, SHA256.size()), make([]byte, SHA256.size())},
}}

// Spent knows the exchanges that have ended, as long as they could be brought again. It is bounded: if more
// end at once, the excess is refused rather than forgotten. It is used by one goroutine at a time.
type Spent struct {
	Most  int // exchanges at a time
	known map[string]struct{}
	order []spent
}

type spent struct {
	nonce string
	until unixtime.Time
}

// Add notes that an exchange ends. The error is ErrSpent, if it has ended before, or ErrCrowded.
func (s *Spent) Add(nonce string, now unixtime.Time) error {
	for len(s.order) > 0 && (now >= s.order[0].until || s.order[0].until.Sub(now) > setBack) {
		delete(s.known, s.order[0].nonce)
		s.order = s.order[1:]
	}
	if _, ok := s.known[nonce]; ok {
		return ErrSpent
	}
	if len(s.order) >= s.Most {
		return ErrCrowded
	}
	if s.known == nil {
		s.known = make(map[string]struct{})
	}
	s.known[nonce] = struct{}{}
	s.order = append(s.order, spent{nonce, now.Add(Lifetime)})
	return nil
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// cutText reads what appendText wrote, which was sealed: a shorter text cannot come.
func cutText(b []byte) (text string, rest []byte) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return "", nil
	}
	return string(b[size : size+int(n)]), b[size+int(n):]
}
