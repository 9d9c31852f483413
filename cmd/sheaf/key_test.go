package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
)

// newAPIKey makes a key with sheaf key create, and waits until the API knows it.
func newAPIKey(t testing.TB, nats, api string, args ...string) string {
	t.Helper()
	stdout, stderr, code := runToEnd(t, "", append([]string{"key", "create", "--nats-url", nats}, args...)...)
	if code != exitOK {
		t.Fatalf("sheaf key create: exit code %d: %s", code, stderr)
	}
	key := strings.TrimSuffix(stdout, "\n")
	if !regexp.MustCompile(`^sheaf_[a-z2-7]{12}_[a-z2-7]{40}$`).MatchString(key) || strings.Contains(stderr, key[20:]) {
		t.Fatalf("sheaf key create: %q, and the notes: %s", stdout, stderr)
	}
	if api != "" {
		eventually(t, func() error {
			if code, body := request(t, http.MethodGet, api+"/v1/models", nil, bearer(key)); code == http.StatusUnauthorized {
				return fmt.Errorf("the key is not known yet: %s", body)
			}
			return nil
		})
	}
	return key
}

func bearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

// A key from its making to its end, with processes of their own.
func TestKeyVerbs(t *testing.T) {
	t.Parallel()
	c := newCemetery(t, "--auth", "keys", "--rate-limit", "100")
	var sensitive []string
	key := newAPIKey(t, c.nats, c.api, "--name", "web app", "--tenant", "acme", "--models", "digits,text", "--rate", "0.5", "--burst", "7", "--expires", "1h")
	id := strings.Split(key, "_")[1]
	other := newAPIKey(t, c.nats, c.api, "--scopes", "admin,read")
	sensitive = append(sensitive, strings.Split(key, "_")[2], strings.Split(other, "_")[2])

	list := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := runToEnd(t, "", append([]string{"key", "ls", "--nats-url", c.nats}, args...)...)
		if code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		for _, secret := range sensitive {
			if strings.Contains(stdout+stderr, secret) {
				t.Error("a secret is listed")
			}
		}
		return stdout
	}
	if out := list(); !regexp.MustCompile(`(?m)^`+id+` +web app +acme +submit,read +digits,text +0.5/s +20\S+Z +active$`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^\S{12} +default +admin,read +all +default +never +active$`).MatchString(out) {
		t.Errorf("%s", out)
	}
	var listed struct{ Keys []keyView }
	if err := json.Unmarshal([]byte(list("-o", "json")), &listed); err != nil || len(listed.Keys) != 2 {
		t.Fatalf("%v %+v", err, listed)
	}
	slices.SortFunc(listed.Keys, func(a, b keyView) int { return strings.Compare(a.Tenant, b.Tenant) }) // they are of the same second
	if k := &listed.Keys[0]; k.Key != "" || k.Tenant != "acme" || !strings.Contains(k.CreatedBy, "@") {
		t.Errorf("%+v", k)
	}
	if code, body := request(t, http.MethodPost, c.api+"/v1/models/nothing/jobs", []byte(`{"input":[1]}`), bearer(key)); code != http.StatusNotFound {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := request(t, http.MethodGet, c.api+"/metrics", nil, bearer(key)); code != http.StatusForbidden {
		t.Errorf("/metrics: %d", code)
	}

	stdout, stderr, code := runToEnd(t, "", "key", "revoke", key, "--nats-url", c.nats)
	if code != exitOK || stdout != "revoked: "+id+"\n" || !regexp.MustCompile(`msg=administration who=\S+@\S+ act="revoke key" key=`+id).MatchString(stderr) || strings.Contains(stderr, sensitive[0]) {
		t.Errorf("revoke: exit code %d: %s%s", code, stdout, stderr)
	}
	eventually(t, func() error {
		if code, _ := request(t, http.MethodGet, c.api+"/v1/models", nil, bearer(key)); code != http.StatusUnauthorized {
			return fmt.Errorf("still %d", code)
		}
		return nil
	})
	if code, body := request(t, http.MethodGet, c.api+"/v1/models", nil, bearer(other)); code != http.StatusOK {
		t.Errorf("the other key: %d %s", code, body)
	}
	if out := list(); strings.Contains(out, id) {
		t.Errorf("it is listed: %s", out)
	}
	if out := list("--all"); !regexp.MustCompile(`(?m)^` + id + ` .* revoked$`).MatchString(out) {
		t.Errorf("it is not listed: %s", out)
	}
	for _, v := range []struct {
		args, want string
		code       int
	}{
		{"key revoke aaaaaaaaaaaa", "there is no such key", exitFailure},
		{"key revoke sheaf_x_y", "there is no such key", exitFailure},
		{"key revoke", "ID is missing", exitUsage},
		{"key create --scopes root", `scope "root": expected submit, read or admin`, exitUsage},
		{"key create --scopes=", "at least one scope", exitUsage},
		{"key create --expires yesterday", "expected a time to come", exitUsage},
		{"key create --tenant a/b", `tenant "a/b"`, exitUsage},
		{"key create --rate -1", "-1 jobs a second", exitUsage},
		{"key create --name \x1b[31m", "name: expected", exitUsage},
		{"key create --burst 5", "--burst needs --rate", exitUsage},
		{"key create -o xml", "expected text or json", exitUsage},
		{"key ls --nats-url nats://127.0.0.1:1", "does not answer", exitUnreachable},
	} {
		args := strings.Fields(v.args)
		if !strings.Contains(v.args, "--nats-url") {
			args = append(args, "--nats-url", c.nats)
		}
		_, stderr, code := runToEnd(t, "", args...)
		if code != v.code || !strings.Contains(stderr, v.want) {
			t.Errorf("sheaf %s: exit code %d: %s", v.args, code, stderr)
		}
	}
}

// Keys and tokens at once, through the client verbs, with a worker behind.
func TestCallersOfAllKinds(t *testing.T) {
	t.Parallel()
	issuer := testserver.NewIssuer(t)
	s := newStack(t, 0, 1)
	p := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis, "--auth", "keys,jwt",
		"--jwt-issuer", issuer.URL(), "--jwt-audience", testserver.Audience)
	api := p.find(`HTTP API is up.* url=(\S+)`)
	key := newAPIKey(t, s.nats, api, "--tenant", "acme")
	stranger := newAPIKey(t, s.nats, api, "--tenant", "other")
	eventually(t, func() error {
		if code, body := request(t, http.MethodGet, api+"/v1/models/digits", nil, bearer(key)); code != http.StatusOK {
			return fmt.Errorf("digits is not announced: %d %s", code, body)
		}
		return nil
	})
	input, err := json.Marshal(heldout(t, "digits")[0].Input)
	if err != nil {
		t.Fatal(err)
	}
	for _, credentials := range []string{key, issuer.Token(nil)} {
		stdout, stderr, code := runToEnd(t, "", "submit", "digits", string(input), "--wait", "-o", "json", "--server", api, "--api-key", credentials)
		if code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		id := decodeJob(t, []byte(stdout)).ID
		for _, same := range []string{key, issuer.Token(map[string]any{"sub": "another"})} {
			if _, stderr, code := runToEnd(t, "", "result", id, "--server", api, "--api-key", same); code != exitOK {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		}
		for _, other := range []string{stranger, issuer.Token(map[string]any{"tenant": "other"})} {
			if _, stderr, code := runToEnd(t, "", "result", id, "--server", api, "--api-key", other); code != exitFailure || !strings.Contains(stderr, "404") {
				t.Errorf("another tenant: exit code %d: %s", code, stderr)
			}
		}
	}
	if _, stderr, code := runToEnd(t, "", "submit", "digits", string(input), "--server", api, "--api-key", key+"a"); code != exitFailure || !strings.Contains(stderr, "401") || strings.Contains(stderr, key) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if out := p.text(); strings.Contains(out, key[20:]) {
		t.Errorf("the server logs a key: %s", out)
	}
}

func TestSettingsOfAuthentication(t *testing.T) {
	t.Parallel()
	nats, redis := testserver.NATSProcess(t), "redis://"+testserver.Redis(t)
	none := filepath.Join(t.TempDir(), "none.json")
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"--auth password", `--auth "password": expected keys, jwt or both`, exitUsage},
		{"--auth jwt", "--jwt-issuer is missing", exitUsage},
		{"--auth jwt --jwt-issuer https://x.example", "--jwt-audience is missing", exitUsage},
		{"--auth jwt --jwt-issuer http://x.example --jwt-audience a", "--jwt-issuer: \"http://x.example\": expected https", exitUsage},
		{"--jwt-issuer https://x.example --auth keys", "--jwt-issuer is set, but --auth does not name jwt", exitUsage},
		{"--rate-limit 5", "--rate-limit needs --auth", exitUsage},
		{"--auth keys --rate-limit -5", "-5 jobs a second", exitUsage},
		{"--auth keys --rate-burst 5", "--rate-burst needs --rate-limit", exitUsage},
		{"--auth jwt --jwt-issuer http://127.0.0.1:1 --jwt-audience a", "check --jwt-issuer", exitUnreachable},
		{"--auth jwt --jwt-issuer i --jwt-audience a --jwt-jwks " + none, "no such file", exitUnreachable},
	} {
		args := append([]string{"serve", "--addr", "127.0.0.1:0", "--nats-url", nats, "--redis-url", redis}, strings.Fields(c.args)...)
		_, stderr, code := runToEnd(t, "", args...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d: %s", c.args, code, stderr)
		}
	}
	file := filepath.Join(t.TempDir(), "sheaf.yaml")
	if err := os.WriteFile(file, []byte("auth: keys\nrate-limit: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, []string{"SHEAF_CONFIG=" + file}, "serve", "--addr", "127.0.0.1:0", "--nats-url", nats, "--redis-url", redis)
	api := p.find(`HTTP API is up.* url=(\S+)`)
	if code, _ := get(t, api+"/v1/models"); code != http.StatusUnauthorized {
		t.Errorf("by a settings file: %d", code)
	}
	start := time.Now()
	_ = newAPIKey(t, nats, api)
	t.Logf("the key was known after %s", time.Since(start).Round(time.Millisecond))
}
