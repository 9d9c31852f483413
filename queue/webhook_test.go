package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func newWebhook(t testing.TB, tenant string) queue.Webhook {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return queue.Webhook{
		Ticket: job.Ticket{ID: id, Lane: job.Bulk, Seq: 7, Index: 3, Fingerprint: 0xab}, Tenant: tenant, Host: "hooks.example:8443",
		Finished: time.UnixMilli(1_750_000_000_123).UTC(), Since: time.UnixMilli(1_750_000_000_124).UTC(),
	}
}

func queueWebhooks(t testing.TB, q *queue.Queue, list ...queue.Webhook) {
	t.Helper()
	if err := errors.Join(q.QueueWebhooks(t.Context(), list)...); err != nil {
		t.Fatal(err)
	}
}

func webhooks(t testing.TB, q *queue.Queue) *queue.WebhookSource {
	t.Helper()
	s, err := q.Webhooks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fetchWebhooks fetches n deliveries.
func fetchWebhooks(t testing.TB, s *queue.WebhookSource, n int) []*queue.WebhookDelivery {
	t.Helper()
	var got []*queue.WebhookDelivery
	eventually(t, "the deliveries come", func() bool {
		if err := s.Fetch(t.Context(), n-len(got), time.Second, func(d *queue.WebhookDelivery) { got = append(got, d) }); err != nil {
			t.Fatal(err)
		}
		return len(got) == n
	})
	return got
}

func wantBacklog(t testing.TB, q *queue.Queue, waiting, givenUp uint64) {
	t.Helper()
	w, g, err := q.WebhookBacklog(t.Context())
	if err != nil || w != waiting || g != givenUp {
		t.Errorf("%d wait and %d were given up (%v), expected %d and %d", w, g, err, waiting, givenUp)
	}
}

func TestWebhookRoundTrip(t *testing.T) {
	t.Parallel()
	q := ready(t, nil)
	s := webhooks(t, q)
	want := newWebhook(t, "acme.eu")
	queueWebhooks(t, q, want)
	d := fetchWebhooks(t, s, 1)[0]
	if d.Webhook != want {
		t.Errorf("got %+v, expected %+v", d.Webhook, want)
	}
	if err := d.Defer(0); err != nil {
		t.Fatal(err)
	}
	d = fetchWebhooks(t, s, 1)[0]
	wantBacklog(t, q, 1, 0)
	// The next attempt is a message of its own, and then the old one goes.
	again := d.Webhook
	again.Attempts, again.Due = 1, time.UnixMilli(1_750_000_005_000).UTC()
	queueWebhooks(t, q, again)
	if err := d.Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = fetchWebhooks(t, s, 1)[0]
	if d.Webhook != again {
		t.Errorf("got %+v, expected %+v", d.Webhook, again)
	}
	if err := d.Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantBacklog(t, q, 0, 0)
}

// Whoever finds the record says once more that the job is finished; it is one delivery. By hand it is another.
func TestWebhookIsQueuedOnce(t *testing.T) {
	t.Parallel()
	q := ready(t, nil)
	w := newWebhook(t, "default")
	queueWebhooks(t, q, w, w)
	w.Since = w.Since.Add(time.Second)
	queueWebhooks(t, q, w)
	wantBacklog(t, q, 1, 0)
	hand := w
	hand.Hand = true
	queueWebhooks(t, q, hand)
	wantBacklog(t, q, 2, 0)
	other := w
	other.Finished = w.Finished.Add(time.Millisecond) // another record under the same ID
	queueWebhooks(t, q, other)
	wantBacklog(t, q, 3, 0)
}

// A delivery whose sender dies comes again after AckWait, and the sender that stood still cannot put it off any more.
func TestWebhookOfDeadSender(t *testing.T) {
	t.Parallel()
	q := ready(t, func(c *queue.Config) { c.Webhook.AckWait = 200 * time.Millisecond })
	s := webhooks(t, q)
	queueWebhooks(t, q, newWebhook(t, "default"))
	first := fetchWebhooks(t, s, 1)[0]
	second := fetchWebhooks(t, s, 1)[0]
	if err := first.Defer(time.Hour); !errors.Is(err, queue.ErrLapsed) {
		t.Errorf("a lapsed delivery is put off: %v", err)
	}
	if second.Ticket != first.Ticket {
		t.Errorf("got %v, expected %v", second.Ticket, first.Ticket)
	}
}

// What finds no room is given up and kept as such, and is no error: jobs must not wait for receivers.
func TestWebhooksWithoutRoom(t *testing.T) {
	t.Parallel()
	q := ready(t, func(c *queue.Config) { c.Webhook.MaxMsgsPerTenant = 2 })
	list := make([]queue.Webhook, 5)
	for i := range list {
		list[i] = newWebhook(t, "flood")
	}
	queueWebhooks(t, q, append(list, newWebhook(t, "calm"))...)
	wantBacklog(t, q, 3, 3)
	var got []*queue.GivenUpWebhook
	if err := q.GivenUpWebhooks(t.Context(), "", func(g *queue.GivenUpWebhook) error { got = append(got, g); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Webhook != list[2] || !strings.Contains(got[0].Reason, "no room") {
		t.Errorf("given up: %+v", got)
	}
	none := 0
	if err := q.GivenUpWebhooks(t.Context(), "calm", func(*queue.GivenUpWebhook) error { none++; return nil }); err != nil || none != 0 {
		t.Errorf("%d of the other tenant are given up, %v", none, err)
	}
}

// A message that is no delivery is removed, and holds nothing up.
func TestWebhookThatIsNone(t *testing.T) {
	t.Parallel()
	server := testserver.NATS(t)
	q := connect(t, testConfig(server))
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := webhooks(t, q)
	for _, body := range []string{"", "{", `{"id":"x"}`, `{"id":"00000000-0000-0000-0000-000000000000"}`} {
		testserver.Publish(t, server, "sheaf.webhook.due.default", nil, []byte(body))
	}
	testserver.Publish(t, server, "sheaf.webhook.due.bad%20name", nil, []byte(`{}`))
	want := newWebhook(t, "default")
	queueWebhooks(t, q, want)
	d := fetchWebhooks(t, s, 1)[0]
	if d.Webhook != want {
		t.Errorf("got %+v", d.Webhook)
	}
	if err := d.Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the others are removed", func() bool {
		waiting, _, err := q.WebhookBacklog(t.Context())
		return err == nil && waiting == 0
	})
}
