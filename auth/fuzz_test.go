package auth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// Whatever somebody makes up, it is refused.
func FuzzCredentials(f *testing.F) {
	i := testserver.NewIssuer(f)
	ring, err := auth.NewKeyring(f.Context(), &shelf{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	m := auth.Methods{Keys: ring, Tokens: tokens(f, i, nil)}
	parts := strings.Split(i.Token(nil), ".")
	for _, s := range []string{"", "Bearer x", "Bearer sheaf_aaaaaaaaaaaa_" + strings.Repeat("a", 40), "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer " + parts[0] + "." + parts[1] + ".AAAA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		text, err := auth.Bearer([]string{header})
		if err != nil || text == "" {
			return
		}
		if p, err := m.Authenticate(t.Context(), text); err == nil || p != nil {
			t.Errorf("%q is let in as %v", header, p)
		}
	})
}

// Whatever an issuer signs, whom it lets in has a subject and a valid tenant, and scopes that there are.
func FuzzClaims(f *testing.F) {
	i := testserver.NewIssuer(f)
	v := tokens(f, i, nil)
	for _, s := range []string{`{}`, `{"tenant":"x"}`, `{"tenant":7}`, `{"scope":["read",null]}`, `{"models":{"a":1}}`, `{"aud":{}}`, `{"exp":1e300}`, `{"sub":""}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var others map[string]any
		if json.Unmarshal([]byte(text), &others) != nil {
			return
		}
		p, err := v.Authenticate(t.Context(), i.Token(others))
		if err != nil {
			return
		}
		if p.ID == "" || !job.ValidName(p.Tenant) {
			t.Errorf("%s is let in as %+v", text, p)
		}
		if c := i.Claims(others); c["iss"] != i.URL() || c["exp"] == nil {
			t.Errorf("%s is let in", text)
		}
		for _, s := range p.Scopes {
			if _, err := auth.ParseScopes([]string{string(s)}); err != nil {
				t.Error(err)
			}
		}
	})
}

// Whatever stands in the bucket, it does not bring the server down, and opens no door.
func FuzzKeyRecord(f *testing.F) {
	b := &shelf{}
	text, made := issue(f, b, acme())
	good, err := b.Get(f.Context(), made.ID)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, record []byte) {
		b := &shelf{}
		ring, err := auth.NewKeyring(t.Context(), b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), made.ID, append([]byte{}, record...)); err != nil {
			t.Fatal(err)
		}
		if p, err := ring.Authenticate(t.Context(), text); err == nil && (!job.ValidName(p.Tenant) || p.ID != made.ID) {
			t.Errorf("%s is let in as %+v", record, p)
		}
	})
}
