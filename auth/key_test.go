package auth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/queue"
)

func acme() auth.Key {
	return auth.Key{Name: "web app", Tenant: "acme", Scopes: []auth.Scope{auth.Submit, auth.Read}, Models: []string{"digits"}, Rate: &auth.Rate{PerSecond: 5}, By: "ops"}
}

func issue(t testing.TB, b auth.Bucket, k auth.Key) (string, *auth.Key) {
	t.Helper()
	text, made, err := auth.Issue(t.Context(), b, k, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text, made
}

func bucket(t testing.TB, url string) *queue.Bucket {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = url
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	b := q.Bucket("keys")
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// until waits for a condition that another process brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

func TestAKeyWorksEverywhereUntilItIsRevokedEverywhere(t *testing.T) {
	server := testserver.StartNATS(t, "")
	b := bucket(t, server.URL())
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	early, err := auth.NewKeyring(ctx, bucket(t, server.URL()), logger)
	if err != nil {
		t.Fatal(err)
	}
	text, made := issue(t, b, acme())
	late, err := auth.NewKeyring(ctx, bucket(t, server.URL()), logger)
	if err != nil {
		t.Fatal(err)
	}
	var p *auth.Principal
	until(t, "the key is known", func() bool { p, err = early.Authenticate(ctx, text); return err == nil })
	want := &auth.Principal{
		Kind: auth.KindKey, ID: made.ID, Tenant: "acme", Scopes: []auth.Scope{auth.Submit, auth.Read}, Models: []string{"digits"}, Rate: &auth.Rate{PerSecond: 5},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if _, err := late.Authenticate(ctx, text); err != nil {
		t.Errorf("who began later does not know the key: %v", err)
	}

	// What is stored, listed and logged is not enough to make the key.
	secret := text[strings.LastIndex(text, "_")+1:]
	value, err := b.Get(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(secret))
	if bytes.Contains(value, []byte(secret)) || !bytes.Contains(value, []byte(hex.EncodeToString(sum[:]))) {
		t.Errorf("stored is %s", value)
	}
	keys, _, err := auth.List(ctx, b)
	if err != nil || len(keys) != 1 || keys[0].ID != made.ID || keys[0].State(time.Now()) != "active" {
		t.Errorf("%v, %v", keys, err)
	}

	// While NATS is away the keys that were known work.
	server.Kill()
	for _, ring := range []*auth.Keyring{early, late} {
		if _, err := ring.Authenticate(ctx, text); err != nil {
			t.Errorf("without NATS: %v", err)
		}
		_, err := ring.Authenticate(ctx, text[:len(text)-1]+"7")
		if text[len(text)-1] != '7' {
			refused(t, err, "not known", text)
		}
	}
	server.Start()
	until(t, "NATS stores that the key is revoked", func() bool {
		_, err := auth.Revoke(ctx, b, made.ID, "ops", time.Now())
		return err == nil
	})
	for _, ring := range []*auth.Keyring{early, late} {
		until(t, "the key is refused", func() bool { _, err := ring.Authenticate(ctx, text); return err != nil })
		_, err := ring.Authenticate(ctx, text)
		refused(t, err, "is revoked", text)
	}
	keys, _, err = auth.List(ctx, b)
	if err != nil || len(keys) != 1 || keys[0].State(time.Now()) != "revoked" || keys[0].Revoker != "ops" {
		t.Errorf("%v, %v", keys, err)
	}
	if _, err := auth.Revoke(ctx, b, "aaaaaaaaaaaa", "ops", time.Now()); !errors.Is(err, auth.ErrNoKey) {
		t.Errorf("revoked what is not there: %v", err)
	}
	if strings.Contains(logged.String(), secret) {
		t.Error("the secret is logged")
	}
}

func TestKeysAreNotAlike(t *testing.T) {
	b := &shelf{}
	seen := make(map[string]bool)
	for range 100 {
		text, made := issue(t, b, acme())
		id, secret, ok := strings.Cut(strings.TrimPrefix(text, "sheaf_"), "_")
		if !ok || id != made.ID || len(secret) < 32 { // of 5 bits each: 160
			t.Fatalf("%s is not sheaf_<id>_<secret>", text)
		}
		if seen[id] || seen[secret] {
			t.Fatal("the same again")
		}
		seen[id], seen[secret] = true, true
	}
}

func TestAKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &shelf{}
		ring, err := auth.NewKeyring(t.Context(), b, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, at := acme(), time.Now().Add(time.Hour)
		k.Expires = &at
		text, _ := issue(t, b, k)
		<-time.After(time.Hour - time.Nanosecond)
		if _, err := ring.Authenticate(t.Context(), text); err != nil {
			t.Errorf("a moment before: %v", err)
		}
		<-time.After(time.Nanosecond)
		_, err = ring.Authenticate(t.Context(), text)
		refused(t, err, "is expired", text)
	})
}

func TestMalformedKeysAreRefused(t *testing.T) {
	b := &shelf{}
	ring, err := auth.NewKeyring(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, made := issue(t, b, acme())
	other, _ := issue(t, b, acme())
	secret := text[strings.LastIndex(text, "_")+1:]
	for _, bad := range []string{
		"", "sheaf_", "sheaf__", "sheaf_" + made.ID, "sheaf_" + made.ID + "_", "sheaf_" + made.ID + "_" + secret[1:],
		"sheaf_" + made.ID + "_" + secret + "a", text + "_", strings.ToUpper(text), "sheaf_" + made.ID + "_" + strings.Repeat("é", 20),
		"sheaf_../../etc/x_" + secret, strings.Replace(text, "sheaf_", "sheaf-", 1), "sheaf_" + secret,
	} {
		_, err := ring.Authenticate(t.Context(), bad)
		refused(t, err, "malformed", bad)
	}
	_, err = ring.Authenticate(t.Context(), "sheaf_"+made.ID+other[strings.LastIndex(other, "_"):])
	refused(t, err, "not known", other)
	_, err = ring.Authenticate(t.Context(), "sheaf_aaaaaaaaaaaa_"+secret)
	refused(t, err, "not known", text)
}

// A record that somebody or something else has written must not open a door.
func TestRecordsThatAreNotUnderstoodAreRefused(t *testing.T) {
	b := &shelf{}
	var logged bytes.Buffer
	ring, err := auth.NewKeyring(t.Context(), b, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	text, made := issue(t, b, acme())
	good, err := b.Get(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]any){
		"of a later version": func(k map[string]any) { k["version"] = 2 },
		"of no tenant":       func(k map[string]any) { k["tenant"] = "" },
		"of another id":      func(k map[string]any) { k["id"] = "bbbbbbbbbbbb" },
		"without a hash":     func(k map[string]any) { k["sha256"] = "" },
		"with a short hash":  func(k map[string]any) { k["sha256"] = "00" },
		"with wrong types":   func(k map[string]any) { k["scopes"] = secretOf(text) },
	} {
		var k map[string]any
		if err := json.Unmarshal(good, &k); err != nil {
			t.Fatal(err)
		}
		change(k)
		bad, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), made.ID, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Authenticate(t.Context(), text); err == nil {
			t.Errorf("a record %s is taken", name)
		}
		if _, unreadable, err := auth.List(t.Context(), b); err != nil || len(unreadable) != 1 {
			t.Errorf("a record %s: %v, %v", name, unreadable, err)
		}
		if err := b.Put(t.Context(), made.ID, good); err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Authenticate(t.Context(), text); err != nil {
			t.Errorf("after a record %s: %v", name, err)
		}
	}
	if strings.Contains(logged.String(), secretOf(text)) || !strings.Contains(logged.String(), "cannot be read") {
		t.Errorf("logged: %s", logged.String())
	}
}

func secretOf(text string) string { return text[strings.LastIndex(text, "_")+1:] }

func TestWhatAKeyMustBe(t *testing.T) {
	now := time.Now()
	past := now.Add(-time.Second)
	for want, change := range map[string]func(*auth.Key){
		"at least one scope": func(k *auth.Key) { k.Scopes = nil },
		`scope "root"`:       func(k *auth.Key) { k.Scopes = []auth.Scope{"root"} },
		`tenant "a b"`:       func(k *auth.Key) { k.Tenant = "a b" },
		`tenant ""`:          func(k *auth.Key) { k.Tenant = "" },
		`model "a/b"`:        func(k *auth.Key) { k.Models = []string{"a/b"} },
		"a time to come":     func(k *auth.Key) { k.Expires = &past },
		"-1 jobs a second":   func(k *auth.Key) { k.Rate = &auth.Rate{PerSecond: -1} },
		"name":               func(k *auth.Key) { k.Name = "\x00" },
	} {
		k := acme()
		change(&k)
		if _, _, err := auth.Issue(t.Context(), &shelf{}, k, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q, got %v", want, err)
		}
	}
}
