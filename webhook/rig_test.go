package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/webhook"
)

// patience bounds every wait for a condition; no test waits for it to pass.
const patience = 30 * time.Second

// rig is a sender between a real NATS server and real receivers.
type rig struct {
	t       *testing.T
	cfg     webhook.Config
	deps    webhook.Deps
	queue   *queue.Queue
	results *resultstore.Memory
	secrets *webhook.Secrets
	log     *logbook
}

// newRig starts the server and no sender yet. Its settings are quick, and allow what receivers of tests are.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, cfg: webhook.DefaultConfig(), log: &logbook{}}
	r.cfg.Schedule = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond}
	r.cfg.AllowHTTP = true
	r.cfg.StopTimeout = 100 * time.Millisecond
	r.cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg := queue.DefaultConfig()
	cfg.URL = testserver.NATS(t)
	cfg.Webhook.AckWait = time.Second
	var err error
	if r.queue, err = queue.Connect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.queue.Close() })
	if err := r.queue.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.results, err = resultstore.NewMemory(resultstore.DefaultMemoryConfig()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.results.Close() })
	r.secrets = webhook.NewSecrets(r.queue.Bucket(webhook.BucketName), r.cfg.Overlap)
	r.deps = webhook.Deps{
		Queue: r.queue, Results: r.results, Secrets: r.secrets, Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Render: func(t job.Ticket, _ *job.Result, outputs bool) []byte {
			if !outputs {
				return []byte(`{"id":"` + t.String() + `","outputs_omitted":true}`)
			}
			return []byte(`{"id":"` + t.String() + `"}`)
		},
	}
	return r
}

// start runs a sender until the end of the test, or until stop.
func (r *rig) start() (stop func()) {
	r.t.Helper()
	s, err := webhook.New(r.cfg, r.deps)
	if err != nil {
		r.t.Fatal(err)
	}
	r.deps.Registerer = nil // for the next one
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(stop)
	return stop
}

// finish writes the record of a job that names the URL, and queues its delivery, as whoever ends a job does.
func (r *rig) finish(url string, change func(*job.Result)) job.Ticket {
	r.t.Helper()
	id, err := job.NewID()
	if err != nil {
		r.t.Fatal(err)
	}
	result := job.Result{ID: id, State: job.Succeeded, Tenant: job.DefaultTenant, Model: "m", Webhook: url, FinishedAt: time.Now(), Token: 1}
	if change != nil {
		change(&result)
	}
	if _, err := r.results.Finish(r.t.Context(), []resultstore.Entry{{ID: id, Record: job.AppendRecord(nil, &result)}}); err != nil {
		r.t.Fatal(err)
	}
	t := job.Ticket{ID: id, Seq: 1}
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	r.queueUp(queue.Webhook{Ticket: t, Tenant: result.Tenant, Host: host, Finished: result.FinishedAt})
	return t
}

func (r *rig) queueUp(list ...queue.Webhook) {
	r.t.Helper()
	if err := errors.Join(r.queue.QueueWebhooks(r.t.Context(), list)...); err != nil {
		r.t.Fatal(err)
	}
}

// awaitEmpty waits until no delivery is left.
func (r *rig) awaitEmpty() {
	r.t.Helper()
	eventually(r.t, "all deliveries are over", func() bool {
		waiting, _, err := r.queue.WebhookBacklog(r.t.Context())
		return err == nil && waiting == 0
	})
}

// givenUp lists the deliveries that were given up.
func (r *rig) givenUp() []*queue.GivenUpWebhook {
	r.t.Helper()
	var list []*queue.GivenUpWebhook
	err := r.queue.GivenUpWebhooks(r.t.Context(), "", func(g *queue.GivenUpWebhook) error { list = append(list, g); return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// wantGivenUp waits for the one delivery that is given up, with what is in its reason.
func (r *rig) wantGivenUp(attempts int, reason string) {
	r.t.Helper()
	r.awaitEmpty()
	list := r.givenUp()
	if len(list) != 1 || list[0].Attempts != attempts || !strings.Contains(list[0].Reason, reason) {
		r.t.Fatalf("given up: %+v; expected one after %d attempts, because of %q", list, attempts, reason)
	}
}

// got is a request that a receiver had.
type got struct {
	header http.Header
	body   []byte
	at     time.Time
}

// receiver is a real HTTP server that notes what it gets.
type receiver struct {
	*httptest.Server

	mu   sync.Mutex
	list []got
}

// receive starts a receiver; answer is called with the number of the request, from 0.
func receive(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	rc := &receiver{}
	rc.Server = httptest.NewServer(rc.handler(answer))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) handler(answer func(n int, w http.ResponseWriter, r *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		rc.mu.Lock()
		n := len(rc.list)
		rc.list = append(rc.list, got{r.Header.Clone(), body, time.Now()})
		rc.mu.Unlock()
		if answer != nil {
			answer(n, w, r)
		}
	})
}

func (rc *receiver) requests() []got {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]got(nil), rc.list...)
}

// await waits for n requests.
func (rc *receiver) await(t *testing.T, n int) []got {
	t.Helper()
	eventually(t, "the receiver gets its requests", func() bool { return len(rc.requests()) >= n })
	return rc.requests()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// logbook is what the sender logs.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
