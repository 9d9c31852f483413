package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Key is what is stored of an API key: everything but the secret.
type Key struct {
	// Version is that of this form. A later form may restrict a key in a way that an older program does not know of, so
	// a key of another version is refused.
	Version int        `json:"version"`
	ID      string     `json:"id"`
	Name    string     `json:"name,omitempty"` // for people
	Tenant  string     `json:"tenant"`
	Scopes  []Scope    `json:"scopes"`
	Models  []string   `json:"models,omitempty"` // empty: all
	Rate    *Rate      `json:"rate,omitempty"`   // nil: the server's default
	SHA256  string     `json:"sha256"`           // of the secret, in hexadecimal
	Created time.Time  `json:"created"`
	By      string     `json:"created_by,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
	Revoker string     `json:"revoked_by,omitempty"`
}

const (
	keyVersion  = 1
	keyPrefix   = "sheaf_"
	idChars     = 12
	secretChars = 40 // of 5 bits each
)

// Validate names every fault of a key that is to be made.
func (k *Key) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !job.ValidText(k.Name, 200) {
		bad("name: expected at most 200 bytes of text")
	}
	if !job.ValidName(k.Tenant) {
		bad("tenant %q: expected letters, digits, '-', '_' and '.', at most 128", k.Tenant)
	}
	if len(k.Scopes) == 0 {
		bad("a key needs at least one scope: submit, read, admin")
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			bad("scope %q: expected submit, read or admin", s)
		}
	}
	for _, m := range k.Models {
		if !job.ValidName(m) {
			bad("model %q: not a valid name of a model", m)
		}
	}
	if k.Rate != nil {
		if err := k.Rate.Validate(); err != nil {
			bad("rate: %w", err)
		}
	}
	if k.Expires != nil && !k.Expires.After(k.Created) {
		bad("expires: expected a time to come")
	}
	return errors.Join(faults...)
}

// State is "active", "revoked" or "expired".
func (k *Key) State(now time.Time) string {
	switch {
	case k.Revoked != nil:
		return "revoked"
	case k.Expires != nil && !now.Before(*k.Expires):
		return "expired"
	}
	return "active"
}

// generate gives the key an id and a secret, and returns the text that is shown once.
func (k *Key) generate() (text string) {
	k.Version, k.ID = keyVersion, randomText(idChars)
	secret := randomText(secretChars)
	sum := sha256.Sum256([]byte(secret))
	k.SHA256 = hex.EncodeToString(sum[:])
	return keyPrefix + k.ID + "_" + secret
}

// randomText returns n random characters of base32.
func randomText(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return strings.ToLower(b.String()[:n])
}

// splitKey takes a key's text apart. false if it is none.
func splitKey(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && validID(id) && len(secret) == secretChars && isKeyText(secret)
}

// KeyID is the id in a key's text, or else the text itself: whoever holds a key that leaked may have nothing else.
func KeyID(text string) string {
	if id, _, ok := splitKey(text); ok {
		return id
	}
	return text
}

func validID(id string) bool { return len(id) == idChars && isKeyText(id) }

func isKeyText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// decodeKey reads what is stored under id.
func decodeKey(id string, value []byte) (*Key, error) {
	var k Key
	if err := json.Unmarshal(value, &k); err != nil {
		return nil, errors.New("it is not a key in JSON") // the error of json may quote the value
	}
	sum, err := hex.DecodeString(k.SHA256)
	switch {
	case k.Version != keyVersion:
		return nil, fmt.Errorf("it is of version %d, and this program knows version %d: a newer sheaf made it", k.Version, keyVersion)
	case k.ID != id:
		return nil, errors.New("it is stored under another id than its own")
	case !job.ValidName(k.Tenant):
		return nil, errors.New("it has no valid tenant") // "" would see everybody's jobs
	case err != nil || len(sum) != sha256.Size:
		return nil, errors.New("it has no SHA-256")
	}
	return &k, nil
}
