package testserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer is an OpenID Connect issuer on a loopback port, with real signatures.
type Issuer struct {
	// Asked counts the requests for its keys.
	Asked atomic.Int64
	// Down makes it answer 500.
	Down atomic.Bool

	t      testing.TB
	server *httptest.Server
	mu     sync.Mutex
	kid    int
	key    crypto.Signer
	public []jose.JSONWebKey
}

// Audience is that of the tokens of an Issuer, unless they say another.
const Audience = "sheaf-tests"

// NewIssuer starts an issuer with one key.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	i.Rotate()
	mux := http.NewServeMux()
	answer := func(path string, doc func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			if i.Down.Load() {
				http.Error(w, "down", http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(doc())
		})
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{"issuer": i.URL(), "jwks_uri": i.URL() + "/keys"}
	})
	answer("/keys", func() any {
		i.Asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		return jose.JSONWebKeySet{Keys: i.public}
	})
	i.server = httptest.NewServer(mux)
	t.Cleanup(i.server.Close)
	return i
}

// URL is the issuer's name, under which its discovery is served.
func (i *Issuer) URL() string { return i.server.URL }

// Rotate makes a new key, which signs from now on, and takes back all that were before.
func (i *Issuer) Rotate() {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatalf("testserver: %v", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kid++
	i.key = key
	i.public = []jose.JSONWebKey{{Key: key.Public(), KeyID: strconv.Itoa(i.kid), Use: "sig", Algorithm: string(jose.ES256)}}
}

// Claims are those of a token that is taken, with others added or put in their place; nil takes one away.
func (i *Issuer) Claims(others map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL(), "aud": Audience, "sub": "somebody", "tenant": "acme", "scope": "submit read",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(c, others)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// Token signs Claims.
func (i *Issuer) Token(others map[string]any) string {
	i.mu.Lock()
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: strconv.Itoa(i.kid)}}
	i.mu.Unlock()
	token, err := sign(key, i.Claims(others))
	if err != nil {
		i.t.Fatalf("testserver: %v", err)
	}
	return token
}

// Sign makes a JWT.
func Sign(t testing.TB, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	token, err := sign(key, claims)
	if err != nil {
		t.Fatalf("testserver: %v", err)
	}
	return token
}

func sign(key jose.SigningKey, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// PublicJWK is the key that signs now, as anybody can read it.
func (i *Issuer) PublicJWK() string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	raw, err := i.public[0].MarshalJSON()
	if err != nil {
		i.t.Fatalf("testserver: %v", err)
	}
	return string(raw)
}

// PublicPEM is the same in PEM.
func (i *Issuer) PublicPEM() string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		i.t.Fatalf("testserver: %v", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
