package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/internal/testserver"
)

func tokens(t testing.TB, i *testserver.Issuer, change func(*auth.TokenConfig)) *auth.Tokens {
	t.Helper()
	cfg := auth.DefaultTokenConfig()
	cfg.Issuer, cfg.Audience, cfg.Pause = i.URL(), testserver.Audience, time.Nanosecond
	if change != nil {
		change(&cfg)
	}
	v, err := auth.NewTokens(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestATokenSaysWhoItIs(t *testing.T) {
	i := testserver.NewIssuer(t)
	submitRead := []auth.Scope{auth.Submit, auth.Read}
	for name, c := range map[string]struct {
		change func(*auth.TokenConfig)
		claims map[string]any
		want   *auth.Principal
	}{
		"as it comes":        {nil, nil, &auth.Principal{Tenant: "acme", Scopes: submitRead}},
		"with a list":        {nil, map[string]any{"scope": []string{"openid", "admin"}, "models": []string{"digits"}}, &auth.Principal{Tenant: "acme", Scopes: []auth.Scope{auth.Admin}, Models: []string{"digits"}}},
		"for several":        {nil, map[string]any{"aud": []string{"x", testserver.Audience}}, &auth.Principal{Tenant: "acme", Scopes: submitRead}},
		"without scopes":     {nil, map[string]any{"scope": nil}, &auth.Principal{Tenant: "acme"}},
		"of the default":     {func(c *auth.TokenConfig) { c.DefaultTenant = "all" }, map[string]any{"tenant": nil}, &auth.Principal{Tenant: "all", Scopes: submitRead}},
		"not of the default": {func(c *auth.TokenConfig) { c.DefaultTenant = "all" }, nil, &auth.Principal{Tenant: "acme", Scopes: submitRead}},
		"with other claims": {func(c *auth.TokenConfig) {
			c.TenantClaim, c.ScopeClaim, c.ModelsClaim = "org.id", "https://x.example/roles", ""
		}, map[string]any{"org": map[string]any{"id": "o"}, "https://x.example/roles": "read", "models": 7}, &auth.Principal{Tenant: "o", Scopes: []auth.Scope{auth.Read}}},
		"whose clock is fast": {nil, map[string]any{"nbf": time.Now().Add(20 * time.Second).Unix()}, &auth.Principal{Tenant: "acme", Scopes: submitRead}},
		"whose clock is slow": {nil, map[string]any{"exp": time.Now().Add(-20 * time.Second).Unix()}, &auth.Principal{Tenant: "acme", Scopes: submitRead}},
	} {
		p, err := tokens(t, i, c.change).Authenticate(t.Context(), i.Token(c.claims))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.want.Kind, c.want.ID = auth.KindToken, "somebody"
		if diff := cmp.Diff(c.want, p); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	i := testserver.NewIssuer(t)
	v := tokens(t, i, nil)
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		claims map[string]any
		why    string
	}{
		"of another issuer":      {map[string]any{"iss": "https://evil.example"}, "another issuer"},
		"of no issuer":           {map[string]any{"iss": nil}, "another issuer"},
		"for another audience":   {map[string]any{"aud": "elsewhere"}, "another audience"},
		"for no audience":        {map[string]any{"aud": nil}, "another audience"},
		"that is expired":        {map[string]any{"exp": at(-31 * time.Second)}, "expired"},
		"that never expires":     {map[string]any{"exp": nil}, "never expires"},
		"that is not valid yet":  {map[string]any{"nbf": at(time.Minute)}, "not valid yet"},
		"made in the future":     {map[string]any{"iat": at(time.Minute)}, "not valid yet"},
		"of nobody":              {map[string]any{"sub": nil}, "claim sub"},
		"of somebody with lines": {map[string]any{"sub": "a\nb"}, "claim sub"},
		"without a tenant":       {map[string]any{"tenant": nil}, "expected the claim tenant"},
		"of no tenant":           {map[string]any{"tenant": ""}, "claim tenant"},
		"of every tenant":        {map[string]any{"tenant": "*"}, "claim tenant"},
		"of several tenants":     {map[string]any{"tenant": []string{"a"}}, "claim tenant"},
		"of no model":            {map[string]any{"models": []string{}}, "for no model"},
		"of odd models":          {map[string]any{"models": 7}, "claim models"},
		"of odd scopes":          {map[string]any{"scope": []any{"read", 1}}, "claim scope"},
	} {
		token := i.Token(c.claims)
		p, err := v.Authenticate(t.Context(), token)
		if p != nil {
			t.Errorf("a token %s is taken", name)
		}
		refused(t, err, c.why, token)
	}
}

// What is made without the issuer's private key is refused, whatever it says of itself.
func TestForgedTokensAreRefused(t *testing.T) {
	i := testserver.NewIssuer(t)
	v := tokens(t, i, nil)
	good := i.Token(nil)
	parts := strings.Split(good, ".")
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(alg jose.SignatureAlgorithm, key any, kid string) string {
		return testserver.Sign(t, jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, i.Claims(nil))
	}
	embedding, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: stranger}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(i.Claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := embedding.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ token, why string }{
		"alg none":              {b64(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".", "algorithm"},
		"alg None":              {b64(`{"alg":"None","kid":"1"}`) + "." + parts[1] + "." + parts[2], "algorithm"},
		"alg none, as JSON":     {`{"payload":"` + parts[1] + `","signatures":[]}`, "no JWT"},
		"HS256 with the key":    {signed(jose.HS256, []byte(i.PublicPEM()), "1"), "algorithm"},
		"HS256 with the JWK":    {signed(jose.HS256, []byte(i.PublicJWK()), "1"), "algorithm"},
		"another key":           {signed(jose.ES256, stranger, "1"), "signature of the token is wrong"},
		"another key, no kid":   {signed(jose.ES256, stranger, ""), "key that the issuer does not have"},
		"an unknown kid":        {signed(jose.ES256, stranger, "9"), "key that the issuer does not have"},
		"its key in the header": {embedded, "key that the issuer does not have"},
		"another payload":       {parts[0] + "." + b64(string(payload)+" ") + "." + parts[2], "signature"},
		"no signature":          {parts[0] + "." + parts[1] + ".", "signature"},
		"another alg's header":  {b64(`{"alg":"ES384","kid":"1"}`) + "." + parts[1] + "." + parts[2], "key that the issuer does not have"},
		"an unknown crit":       {b64(`{"alg":"ES256","kid":"1","crit":["x"],"x":1}`) + "." + parts[1] + "." + parts[2], "signature"},
		"an empty text":         {"", "no JWT"},
		"no JWT":                {"abc", "no JWT"},
		"dots":                  {"..", "no JWT"},
	} {
		p, err := v.Authenticate(t.Context(), c.token)
		if p != nil {
			t.Errorf("%s: taken", name)
		}
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: expected %q, got %v", name, c.why, err)
		}
	}
	if _, err := v.Authenticate(t.Context(), good); err != nil {
		t.Errorf("the true one: %v", err)
	}
}

func TestKeysOfAnIssuerChange(t *testing.T) {
	i := testserver.NewIssuer(t)
	v := tokens(t, i, nil)
	old := i.Token(nil)
	i.Rotate()
	fresh := i.Token(nil)
	if _, err := v.Authenticate(t.Context(), fresh); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	_, err := v.Authenticate(t.Context(), old)
	refused(t, err, "key that the issuer does not have", old)

	// While the issuer is down, only a token that needs a key that is not there has to wait.
	i.Down.Store(true)
	if _, err := v.Authenticate(t.Context(), fresh); err != nil {
		t.Errorf("with a known key: %v", err)
	}
	i.Rotate()
	if p, err := v.Authenticate(t.Context(), i.Token(nil)); !errors.Is(err, auth.ErrUnavailable) || p != nil {
		t.Errorf("with a key that cannot be had: %v, %v", p, err)
	}
	other := i.Token(map[string]any{"aud": "elsewhere"})
	_, err = v.Authenticate(t.Context(), other)
	refused(t, err, "another audience", other)
	i.Down.Store(false)
	if _, err := v.Authenticate(t.Context(), i.Token(nil)); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestUnknownKeysDoNotFloodTheIssuer(t *testing.T) {
	i := testserver.NewIssuer(t)
	v := tokens(t, i, func(c *auth.TokenConfig) { c.Pause = time.Hour })
	i.Rotate()
	for range 100 {
		_, err := v.Authenticate(t.Context(), i.Token(nil))
		refused(t, err, "key that the issuer does not have", "")
	}
	if n := i.Asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

func TestATakenBackKeyIsForgotten(t *testing.T) {
	i := testserver.NewIssuer(t)
	v := tokens(t, i, func(c *auth.TokenConfig) { c.Refresh, c.Pause = time.Second, time.Hour })
	old := i.Token(nil)
	i.Rotate()
	until(t, "the old key is refused", func() bool { _, err := v.Authenticate(t.Context(), old); return err != nil })
}

func TestKeysFromAFileAndFromAURL(t *testing.T) {
	i := testserver.NewIssuer(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(doc string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak.N.Rsh(weak.N, 1024)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "1"}, {Key: &weak.PublicKey, KeyID: "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	write(`{"keys":[{"kty":"what"},` + strings.TrimPrefix(strings.TrimSuffix(string(set), "]}"), `{"keys":[`) + "," + i.PublicJWK() + "]}")
	fromFile := tokens(t, i, func(c *auth.TokenConfig) { c.JWKS = file })
	fromURL := tokens(t, i, func(c *auth.TokenConfig) { c.JWKS = i.URL() + "/keys" })
	for _, v := range []*auth.Tokens{fromFile, fromURL} {
		if _, err := v.Authenticate(t.Context(), i.Token(nil)); err != nil {
			t.Error(err)
		}
	}
	i.Rotate()
	write(`{"keys":[` + i.PublicJWK() + "]}")
	if _, err := fromFile.Authenticate(t.Context(), i.Token(nil)); err != nil {
		t.Errorf("after the file has changed: %v", err)
	}
	write(string(set))
	cfg := auth.DefaultTokenConfig()
	cfg.Issuer, cfg.Audience, cfg.JWKS = "anything", "a", file
	if _, err := auth.NewTokens(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "no public key") {
		t.Errorf("of a secret key and a weak one: %v", err)
	}
}

func TestAnIssuerThatCannotBeHad(t *testing.T) {
	i := testserver.NewIssuer(t)
	cfg := auth.DefaultTokenConfig()
	cfg.Issuer, cfg.Audience = i.URL()+"/other", "a"
	if _, err := auth.NewTokens(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "check JWT.Issuer") {
		t.Errorf("of another path: %v", err)
	}
	cfg.Issuer = i.URL() + "/" // discovery tells the name without the slash
	if _, err := auth.NewTokens(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "did not match") {
		t.Errorf("of another name: %v", err)
	}
	cfg.JWKS = filepath.Join(t.TempDir(), "none.json")
	if _, err := auth.NewTokens(t.Context(), cfg, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	var logged bytes.Buffer
	cfg.Issuer, cfg.JWKS, cfg.Pause = i.URL(), "", time.Nanosecond
	v, err := auth.NewTokens(t.Context(), cfg, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	i.Down.Store(true)
	i.Rotate()
	token := i.Token(map[string]any{"aud": "a"})
	for range 3 {
		if _, err := v.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	if n := strings.Count(logged.String(), "cannot be had"); n != 1 || strings.Contains(logged.String(), token) {
		t.Errorf("logged %d times: %s", n, logged.String())
	}
}

func TestSettingsOfTokens(t *testing.T) {
	cfg := auth.TokenConfig{DefaultTenant: "a b"}
	err := cfg.Validate()
	for _, want := range []string{"JWT.Issuer is missing", "JWT.Audience is missing", "JWT.DefaultTenant", "JWT.ScopeClaim", "JWT.Refresh"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q: %v", want, err)
		}
	}
	for issuer, ok := range map[string]bool{
		"https://login.example.com/": true, "http://127.0.0.1:1": true, "http://localhost": true,
		"http://login.example.com": false, "http://127.0.0.1.example.com": false, "login.example.com": false, "https://u:p@x.example": false, "file:///etc/x": false,
	} {
		cfg := auth.DefaultTokenConfig()
		cfg.Issuer, cfg.Audience = issuer, "a"
		if err := cfg.Validate(); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestMethods(t *testing.T) {
	i := testserver.NewIssuer(t)
	b := &shelf{}
	ring, err := auth.NewKeyring(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := issue(t, b, acme())
	v := tokens(t, i, nil)
	both := auth.Methods{Keys: ring, Tokens: v}
	for _, credentials := range []string{text, i.Token(nil)} {
		if p, err := both.Authenticate(t.Context(), credentials); err != nil || p.Tenant != "acme" {
			t.Errorf("%v, %v", p, err)
		}
	}
	_, err = (&auth.Methods{Keys: ring}).Authenticate(t.Context(), i.Token(nil))
	refused(t, err, "tokens are not taken", "")
	_, err = (&auth.Methods{Tokens: v}).Authenticate(t.Context(), text)
	refused(t, err, "API keys are not taken", text)
	_, err = both.Authenticate(t.Context(), strings.Repeat("x", 20_000))
	refused(t, err, "too long", "")
	if (&auth.Methods{}).Validate() == nil || both.Validate() != nil {
		t.Error("Validate")
	}
}

func TestBearer(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   string
		ok     bool
	}{
		{nil, "", true},
		{[]string{"Bearer abc"}, "abc", true},
		{[]string{"  bearer   abc "}, "abc", true},
		{[]string{"Bearer"}, "", false},
		{[]string{"Bearer a b"}, "", false},
		{[]string{"Bearer a,b"}, "", false},
		{[]string{"Basic abc"}, "", false},
		{[]string{"abc"}, "", false},
		{[]string{"Bearer a", "Bearer b"}, "", false},
	} {
		got, err := auth.Bearer(c.values)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %q, %v", c.values, got, err)
		}
	}
}
