package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/crypto/bcrypt"
)

// What the token server calls itself and the registry.
const (
	issuer  = "registry of the tests"
	service = "registry.test"
	keyID   = "only"
)

// A guard lets one user do everything. Where it gives out tokens, everybody may pull what is not
// below "private/".
type guard struct {
	kind, user, password string
	key                  ed25519.PrivateKey
}

// newGuard makes a guard of the kind "none", "basic" or "token".
func newGuard(kind, user, password string) (*guard, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return &guard{kind, user, password, key}, err
}

// configure tells a registry whom to let in. It reads the files that this makes now and then, until
// the process ends.
func (guard *guard) configure(settings *configuration.Configuration, base string) error {
	if guard.kind == "none" {
		return nil
	}
	directory, err := os.MkdirTemp("", "registry-of-the-tests-")
	if err != nil {
		return err
	}
	switch guard.kind {
	case "basic":
		hash, err := bcrypt.GenerateFromPassword([]byte(guard.password), bcrypt.MinCost)
		if err != nil {
			return err
		}
		path := filepath.Join(directory, "htpasswd")
		settings.Auth = configuration.Auth{"htpasswd": {"realm": issuer, "path": path}}
		return os.WriteFile(path, []byte(guard.user+":"+string(hash)+"\n"), 0o600)
	case "token":
		public := jose.JSONWebKey{Key: guard.key.Public(), KeyID: keyID}
		keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
		if err != nil {
			return err
		}
		path := filepath.Join(directory, "jwks.json")
		settings.Auth = configuration.Auth{"token": {
			"realm": base + "/token", "service": service, "issuer": issuer, "jwks": path,
		}}
		return os.WriteFile(path, keys, 0o600)
	default:
		return fmt.Errorf("--auth %s: write none, basic or token", guard.kind)
	}
}

// ServeHTTP gives out tokens (distribution, "Token Authentication Specification"). It has no OAuth 2,
// which clients with a user try first.
func (guard *guard) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodGet {
		http.NotFound(response, request)
		return
	}
	user, password, named := request.BasicAuth()
	isUser := user == guard.user && password == guard.password
	if named && !isUser {
		http.Error(response, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	answer, err := guard.token(request.FormValue("scope"), isUser)
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(response).Encode(map[string]any{"token": answer, "expires_in": 300})
}

func (guard *guard) token(scope string, isUser bool) (string, error) {
	granted := []*token.ResourceActions{}
	if parts := strings.Split(scope, ":"); len(parts) == 3 {
		actions := strings.Split(parts[2], ",")
		if !isUser {
			actions = []string{"pull"}
		}
		if isUser || !strings.HasPrefix(parts[1], "private/") {
			granted = append(granted, &token.ResourceActions{Type: parts[0], Name: parts[1], Actions: actions})
		}
	}
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", keyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: guard.key}, options)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(token.ClaimSet{
		Issuer:     issuer,
		Audience:   token.AudienceList{service},
		IssuedAt:   now.Unix(),
		NotBefore:  now.Add(-time.Minute).Unix(),
		Expiration: now.Add(5 * time.Minute).Unix(),
		Access:     granted,
	}).Serialize()
}

// admit gives a request of our own what the guard wants to see.
func (guard *guard) admit(request *http.Request, repository string) error {
	switch guard.kind {
	case "basic":
		request.SetBasicAuth(guard.user, guard.password)
	case "token":
		token, err := guard.token("repository:"+repository+":pull,push", true)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}
