// Command idp is an OpenID Connect provider for tests: the example of zitadel/oidc, with a client that gets signed access
// tokens beside one that gets opaque ones. It listens on the address that is its first argument, which is the issuer
// with "http://" before it, and writes a line once it does. It is a module of its own, since the programs need
// nothing of it.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// signed is the client that gets JWTs as access tokens.
const signed = "signed"

type store struct{ *storage.Storage }

// GetClientByClientID implements op.Storage.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err == nil && id == signed {
		c = client{c}
	}
	return c, err
}

// SetIntrospectionFromToken implements op.Storage. Like Zitadel it says what kind of token it is.
func (s *store) SetIntrospectionFromToken(ctx context.Context, about *oidc.IntrospectionResponse, tokenID, subject, clientID string) error {
	about.TokenType = oidc.BearerToken
	return s.Storage.SetIntrospectionFromToken(ctx, about, tokenID, subject, clientID)
}

type client struct{ op.Client }

// AccessTokenType implements op.Client.
func (client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: idp HOST:PORT")
	}
	issuer := "http://" + os.Args[1]
	const callback = "http://127.0.0.1/callback"
	storage.RegisterClients(storage.WebClient("opaque", "secret", callback), storage.WebClient(signed, "secret", callback))
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	s := &store{storage.NewStorage(storage.NewUserStore(issuer + "/"))}
	handler := exampleop.SetupServer(issuer, s, slog.New(slog.NewTextHandler(os.Stderr, nil)), false)
	fmt.Println("listening")
	log.Fatal(http.Serve(l, handler))
}
