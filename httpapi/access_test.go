package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// scopesOf is which scope each route needs; "" is none. A route that is not here is one whose scope nobody has thought of.
func scopesOf() map[string]string {
	routes := map[string]string{
		"GET /healthz": "", "GET /readyz": "", "GET /problems/{problem}": "", "GET /openapi.json": "", "GET /docs": "", "GET /docs/{asset}": "",
		"GET /v2/health/live": "", "GET /v2/health/ready": "",
		"GET /metrics": "admin", "GET /v2": "read", "POST /v2/repository/index": "read",
		"POST /v2/repository/models/{model}/load": "admin", "POST /v2/repository/models/{model}/unload": "admin",
		"GET /v1/jobs/{id}": "read", "DELETE /v1/jobs/{id}": "submit",
		"POST /v1/jobs/lookup": "read", "GET /v1/jobs/{id}/events": "read", "GET /v1/jobs/events": "read", "POST /v1/jobs/events": "read",
		"POST /v1/jobs/{id}/webhook": "submit", "GET /v1/webhooks/secret": "submit",
		"POST /v1/files": "submit", "GET /v1/files": "read", "GET /v1/files/{file}": "read", "GET /v1/files/{file}/content": "read", "DELETE /v1/files/{file}": "submit",
		"POST /v1/batches": "submit", "GET /v1/batches": "read", "GET /v1/batches/{batch}": "read", "POST /v1/batches/{batch}/cancel": "submit",
		"POST /v1/batches/{batch}/pause": "submit", "POST /v1/batches/{batch}/resume": "submit",
		"GET /v1/batches/{batch}/results": "read", "GET /v1/batches/{batch}/errors": "read",
		"GET /v1/models":     "read",
		"GET /v1/admin/dead": "admin", "GET /v1/admin/dead/{seq}": "admin", "POST /v1/admin/dead/requeue": "admin", "POST /v1/admin/dead/purge": "admin",
		"GET /v1/admin/queues": "admin", "POST /v1/admin/queues/{lane}/pause": "admin", "POST /v1/admin/queues/{lane}/resume": "admin",
	}
	for _, m := range []string{"/models/{model}", "/models/{model}/versions/{version}"} {
		maps.Copy(routes, map[string]string{
			"POST /v1" + m + "/jobs": "submit", "POST /v1" + m + "/predict": "submit", "POST /v1" + m + "/bulk": "submit", "GET /v1" + m: "read",
			"GET /v2" + m: "read", "GET /v2" + m + "/ready": "read", "GET /v2" + m + "/config": "read", "POST /v2" + m + "/infer": "submit",
		})
	}
	return routes
}

// Every route of the API is asked with every kind of caller.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	r, who := guarded(t, nil)
	want := scopesOf()
	keys := make(map[string]string)
	for _, s := range auth.Scopes() {
		keys[string(s)] = who.key(t, auth.Key{Scopes: []auth.Scope{s}})
	}
	tokens := make(map[string]string)
	for s := range keys {
		tokens[s] = who.issuer.Token(map[string]any{"scope": s})
	}
	var index struct {
		Routes []struct{ Method, Path, Scope string }
	}
	if err := json.Unmarshal([]byte(r.do(t, "GET", "/", "").body), &index); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{model}", "digits", "{version}", "2", "{problem}", "invalid", "{lane}", "bulk", "{seq}", "1", "{file}", "file-1", "{batch}", "batch_1", "{id}", "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i1")
	for _, rt := range index.Routes {
		name := rt.Method + " " + rt.Path
		need, known := want[name]
		if !known {
			t.Errorf("%s: which scope does it need? Say so here.", name)
			continue
		}
		delete(want, name)
		if rt.Scope != need {
			t.Errorf("%s: the index says %q, expected %q", name, rt.Scope, need)
		}
		path := fill.Replace(rt.Path)
		ask := func(header ...string) reply { return r.do(t, rt.Method, path, "{}", header...) }
		if a := ask(); need != "" {
			a.refused(t, 401, "unauthorized")
			if h := a.header.Get("WWW-Authenticate"); h != `Bearer realm="sheaf"` {
				t.Errorf("%s: WWW-Authenticate %q", name, h)
			}
		} else if a.status == 401 || a.status == 403 {
			t.Errorf("%s: %d for anybody", name, a.status)
		}
		for _, credentials := range []map[string]string{keys, tokens} {
			for scope, key := range credentials {
				a := ask(as(key)...)
				if need == "" || need == scope {
					if a.status == 401 || a.status == 403 {
						t.Errorf("%s with the scope %s: %d %s", name, scope, a.status, a.body)
					}
					continue
				}
				a.refused(t, 403, "forbidden")
				if h := a.header.Get("WWW-Authenticate"); h != `Bearer realm="sheaf", error="insufficient_scope", scope="`+need+`"` {
					t.Errorf("%s: WWW-Authenticate %q", name, h)
				}
			}
		}
		a := ask(as("sheaf_aaaaaaaaaaaa_" + strings.Repeat("a", 40))...)
		if need != "" {
			a.refused(t, 401, "unauthorized")
			if h := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(h, `Bearer realm="sheaf", error="invalid_token", error_description="the API key is not known"`) {
				t.Errorf("%s: WWW-Authenticate %q", name, h)
			}
		}
	}
	for name := range want {
		t.Errorf("%s is gone", name)
	}
	m := r.do(t, "GET", "/metrics", "", as(keys["admin"])...).body
	for _, reason := range []string{"missing", "invalid", "scope"} {
		if !strings.Contains(m, `sheaf_http_unauthorized_total{reason="`+reason+`"} `) {
			t.Errorf("the metrics lack the reason %s", reason)
		}
	}
	if a := r.do(t, "GET", "/v1/jobs/x", "", "Authorization", "Basic "+keys["read"]); a.status != 401 {
		t.Errorf("as the password of somebody: %d", a.status)
	}
}

// refused checks a refusal, be it in the form of /v1 or of /v2.
func (a reply) refused(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.str("type") != "/problems/"+code {
		t.Errorf("expected %d %s, got %d %s", status, code, a.status, a.body)
	}
}

// Another tenant's ticket is answered as one that never was.
func TestAnotherTenantsTicketIsUnknown(t *testing.T) {
	r, who := guarded(t, nil)
	acme, other := who.key(t, auth.Key{Tenant: "acme"}), who.issuer.Token(map[string]any{"tenant": "other", "scope": "submit read"})
	submit := func() string {
		t.Helper()
		a := r.do(t, "POST", "/v1/models/digits/jobs", oneRow, as(acme)...)
		if a.status != 202 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.str("id")
	}
	if waiting := submit(); r.queue.last(t).job.Tenant != "acme" {
		t.Errorf("%s is submitted for %s", waiting, r.queue.last(t).job.Tenant)
	}
	tickets := map[string]string{"waiting": submit()}
	for _, state := range []string{"running", "finished"} {
		tickets[state] = submit()
		m := r.queue.last(t)
		if state == "running" {
			r.queue.setState(m.ticket, job.Running)
			continue
		}
		res := digitsResult(m.job)
		res.Tenant = "acme"
		r.settle(t, m.ticket, res)
	}
	gone, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	for state, id := range tickets {
		unknown := strings.Replace(id, id[:36], gone.String(), 1)
		for _, c := range [][2]string{{"GET", ""}, {"GET", "?wait=1ms"}, {"DELETE", ""}, {"HEAD", ""}, {"POST", "/webhook"}} {
			theirs, none := r.do(t, c[0], "/v1/jobs/"+id+c[1], "", as(other)...), r.do(t, c[0], "/v1/jobs/"+unknown+c[1], "", as(other)...)
			if theirs.status != 404 || none.status != 404 {
				t.Errorf("%s %s: %d, and %d if there is none", c[0], state, theirs.status, none.status)
			}
			if d := cmp.Diff(strings.ReplaceAll(none.body, unknown, id), theirs.body); d != "" {
				t.Errorf("%s %s differs from one that never was: %s", c[0], state, d)
			}
			for _, h := range []string{"Date", "Content-Length", "Retry-After"} {
				theirs.header.Del(h)
				none.header.Del(h)
			}
			if d := cmp.Diff(none.header, theirs.header); d != "" {
				t.Errorf("%s %s differs from one that never was: %s", c[0], state, d)
			}
		}
		if a := r.do(t, "GET", "/v1/jobs/"+id, "", as(acme)...); a.status != 200 || a.str("status") == "canceled" {
			t.Errorf("its owner: %d %s", a.status, a.body)
		}
	}
}

func TestOneTenantsIdempotencyKeyIsNotAnothers(t *testing.T) {
	r, who := guarded(t, nil)
	var ids []string
	for _, tenant := range []string{"acme", "other", "acme"} {
		a := r.do(t, "POST", "/v1/models/digits/jobs", oneRow, append(as(who.key(t, auth.Key{Tenant: tenant})), "Idempotency-Key", "k")...)
		ids = append(ids, a.str("id"))
	}
	if ids[0] == "" || ids[0] != ids[2] || ids[0] == ids[1] {
		t.Errorf("%v", ids)
	}
}

// A model that a key is not for is answered as one that is not there.
func TestModelsThatAKeyIsNotFor(t *testing.T) {
	r, who := guarded(t, nil)
	r.work(t, digitsResult)
	all := []auth.Scope{auth.Submit, auth.Read}
	for _, key := range []string{
		who.key(t, auth.Key{Scopes: all, Models: []string{"digits", "text"}}),
		who.issuer.Token(map[string]any{"models": "digits text"}),
	} {
		for _, c := range [][2]string{
			{"GET", "/v1/models/%"},
			{"GET", "/v1/models/%/versions/1"},
			{"POST", "/v1/models/%/jobs"},
			{"POST", "/v1/models/%/versions/1/jobs"},
			{"POST", "/v1/models/%/predict"},
			{"POST", "/v1/models/%/bulk"},
			{"POST", "/v1/models/%/versions/1/bulk"},
			{"POST", "/v1/models/%/versions/1/predict"},
			{"GET", "/v2/models/%"},
			{"GET", "/v2/models/%/ready"},
			{"GET", "/v2/models/%/config"},
			{"GET", "/v2/models/%/versions/1"},
			{"POST", "/v2/models/%/infer"},
			{"POST", "/v2/models/%/versions/1/infer"},
		} {
			ask := func(model string) reply {
				return r.do(t, c[0], strings.ReplaceAll(c[1], "%", model), oneRow, as(key)...)
			}
			theirs, none := ask("hasty"), ask("nasty")
			theirs.refused(t, 404, "unknown-model")
			if d := cmp.Diff(strings.ReplaceAll(none.body, "nasty", "hasty"), theirs.body); d != "" {
				t.Errorf("%s: %s", c, d)
			}
			if a := ask("digits"); a.status == 404 {
				t.Errorf("%s of a model that it is for: %s", c, a.body)
			}
		}
		for _, path := range []string{"GET /v1/models", "POST /v2/repository/index"} {
			method, path, _ := strings.Cut(path, " ")
			body := r.do(t, method, path, "", as(key)...).body
			if strings.Contains(body, "hasty") || strings.Contains(body, "wine") || strings.Count(body, `"digits"`) != 2 || !strings.Contains(body, `"text"`) {
				t.Errorf("%s: %s", path, body)
			}
		}
	}
}

func TestKeysThatAreNoGood(t *testing.T) {
	r, who := guarded(t, nil)
	revoked := who.key(t, auth.Key{})
	past := time.Now().Add(-time.Minute)
	expired, _, err := auth.Issue(t.Context(), who.shelf, auth.Key{Tenant: "a", Scopes: auth.Scopes(), Expires: &past}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if a := r.do(t, "GET", "/v1/models", "", as(revoked)...); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, err := auth.Revoke(t.Context(), who.shelf, auth.KeyID(revoked), "ops", time.Now()); err != nil {
		t.Fatal(err)
	}
	for key, why := range map[string]string{
		revoked: "is revoked", expired: "is expired", expired + "a": "malformed", "sheaf_": "malformed", "x.y.z": "no JWT",
		who.issuer.Token(map[string]any{"aud": "elsewhere"}):                       "another audience",
		who.issuer.Token(map[string]any{"iss": "https://evil.example"}):            "another issuer",
		who.issuer.Token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}): "expired",
		who.issuer.Token(map[string]any{"tenant": nil}):                            "no tenant",
	} {
		a := r.do(t, "GET", "/v1/models", "", as(key)...)
		a.refused(t, 401, "unauthorized")
		if !strings.Contains(a.str("detail"), why) || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("expected %q: %s, %q", why, a.body, a.header.Get("WWW-Authenticate"))
		}
		if len(key) > 20 && strings.Contains(a.body, key[len(key)-20:]) {
			t.Errorf("the answer has the credentials in it: %s", a.body)
		}
	}
	if a := r.do(t, "GET", "/v1/models", "", append(as(expired), as(who.key(t, auth.Key{}))...)...); a.status != 401 {
		t.Errorf("two at once: %d", a.status)
	}
}

func TestAnIssuerThatIsAway(t *testing.T) {
	r, who := guarded(t, nil)
	known := who.issuer.Token(nil)
	who.issuer.Down.Store(true)
	who.issuer.Rotate()
	a := r.do(t, "GET", "/v1/models", "", as(who.issuer.Token(nil))...)
	a.problem(t, 503, "unavailable")
	if a.header.Get("Retry-After") == "" || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("%v %s", a.header, a.body)
	}
	for _, key := range []string{known, who.key(t, auth.Key{})} {
		if a := r.do(t, "GET", "/v1/models", "", as(key)...); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

func TestRateLimitOverHTTP(t *testing.T) {
	limiter, err := auth.NewLimiter(auth.Rate{PerSecond: 0.01, Burst: 3})
	if err != nil {
		t.Fatal(err)
	}
	r, who := guarded(t, func(_ *config, d *deps) { d.Limiter = limiter })
	r.work(t, digitsResult)
	key := who.key(t, auth.Key{})
	for i, path := range []string{"/v1/models/digits/jobs", "/v1/models/digits/predict", "/v2/models/digits/infer"} {
		body := oneRow
		if i == 2 {
			body = `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
		}
		a := r.do(t, "POST", path, body, as(key)...)
		if a.status > 202 || a.header.Get("RateLimit-Policy") != `"default";q=3;w=300` || !strings.HasPrefix(a.header.Get("RateLimit"), `"default";r=`+strconv.Itoa(2-i)+`;t=`) {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	for _, path := range []string{"/v1/models/digits/jobs", "/v1/models/digits/predict", "/v2/models/digits/infer"} {
		a := r.do(t, "POST", path, `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`, as(key)...)
		a.refused(t, 429, "rate-limited")
		if !strings.HasPrefix(a.header.Get("RateLimit"), `"default";r=0;t=`) || a.header.Get("Retry-After") == "" || a.header.Get("RateLimit-Policy") == "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	if a := r.do(t, "GET", "/v1/models", "", as(key)...); a.status != 200 || a.header.Get("RateLimit") != "" {
		t.Errorf("a look: %d %v", a.status, a.header)
	}
	own := who.key(t, auth.Key{Rate: &auth.Rate{}})
	for range 5 {
		if a := r.do(t, "POST", "/v1/models/digits/jobs", oneRow, as(own)...); a.status != 202 || a.header.Get("RateLimit") != "" {
			t.Errorf("a key without a limit: %d %v", a.status, a.header)
		}
	}
	if m := r.do(t, "GET", "/metrics", "", as(who.key(t, auth.Key{Scopes: []auth.Scope{auth.Admin}}))...); !strings.Contains(m.body, `sheaf_gateway_submits_total{outcome="rate_limited"} 3`) {
		t.Error("the refusals are not counted")
	}
}

// What callers show is in no log and no answer, at any level.
func TestCredentialsAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	r, who := guarded(t, func(_ *config, d *deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	good, admin := who.key(t, auth.Key{}), who.key(t, auth.Key{Scopes: []auth.Scope{auth.Admin}})
	bad := who.issuer.Token(map[string]any{"aud": "elsewhere"})
	for _, key := range []string{good, admin, bad, good[:len(good)-1] + "!"} {
		for _, c := range [][2]string{{"POST", "/v1/models/digits/jobs"}, {"GET", "/v1/models"}, {"POST", "/v1/admin/queues/bulk/pause"}, {"GET", "/nothing"}} {
			a := r.do(t, c[0], c[1], "", as(key)...)
			if strings.Contains(a.body, key[len(key)-20:]) {
				t.Errorf("the answer has the credentials in it: %s", a.body)
			}
		}
	}
	text := log.String()
	for _, key := range []string{good, admin, bad} {
		if strings.Contains(text, key[len(key)-20:]) {
			t.Errorf("the log has credentials in it: %s", text)
		}
	}
	for _, want := range []string{`who="key ` + auth.KeyID(good) + `"`, `msg=administration who="key ` + auth.KeyID(admin) + `" act=pause`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s: %s", want, text)
		}
	}
}

// broken is an Authenticator with a defect.
type broken struct {
	p   *auth.Principal
	err error
}

func (b broken) Authenticate(context.Context, string) (*auth.Principal, error) { return b.p, b.err }

func TestADefectLetsNobodyIn(t *testing.T) {
	for _, b := range []broken{{nil, nil}, {&auth.Principal{Scopes: auth.Scopes()}, errors.New("a defect")}} {
		r := newRig(t, func(_ *config, d *deps) { d.Auth = b })
		r.do(t, "GET", "/v1/models", "", as("x")...).problem(t, 500, "internal")
	}
}

func TestWithoutAuthenticationEverythingIsServed(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, digitsResult)
	names := slices.Sorted(maps.Keys(scopesOf()))
	for _, name := range names {
		method, path, _ := strings.Cut(name, " ")
		if strings.Contains(path, "admin") {
			continue
		}
		if a := r.do(t, method, path, "{}", as("anything")...); a.status == 401 || a.status == 403 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

// The gateway asks for each job by itself, whatever the adapter of a protocol has forgotten.
func TestTheGatewayLetsNobodyAround(t *testing.T) {
	r := newRig(t, nil)
	p := &auth.Principal{Kind: auth.KindKey, ID: "k", Tenant: "acme", Scopes: auth.Scopes(), Models: []string{"digits"}}
	ctx := auth.NewContext(t.Context(), p)
	submission := func(model, tenant string) *gateway.Submission {
		return &gateway.Submission{Request: producer.Request{Model: model, Tenant: tenant, Inputs: []job.Tensor{fp32("x", []int64{1, 4}, 1, 2, 3, 4)}}}
	}
	for _, c := range []struct {
		model, tenant string
		want          job.Code
	}{{"digits", "acme", ""}, {"hasty", "acme", job.CodeUnknownModel}, {"digits", "other", job.CodeInternal}, {"digits", "", job.CodeInternal}} {
		_, _, err := r.jobs.Submit(ctx, submission(c.model, c.tenant), 0)
		if err == nil && c.want != "" || err != nil && gateway.ProblemOf(err).Code != c.want {
			t.Errorf("%s of %q: expected %q, got %v", c.model, c.tenant, c.want, err)
		}
	}
	if _, err := r.jobs.Ask(ctx, submission("hasty", "acme"), time.Second); err == nil || gateway.ProblemOf(err).Code != job.CodeUnknownModel {
		t.Errorf("Ask: %v", err)
	}
	if m := r.queue.last(t); m.ticket.Seq != 1 {
		t.Errorf("%d jobs were published", m.ticket.Seq)
	}
}
