package queue_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// started connects with the settings and makes the streams.
func started(t *testing.T, url string, shares int) *queue.Queue {
	t.Helper()
	cfg := testConfig(url)
	cfg.TenantShares = shares
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatalf("ensure streams: %v", err)
	}
	return q
}

// ledger is what was published, by stream sequence.
type ledger map[uint64]string

// publishFor publishes a message of the model for each of n tenants.
func (l ledger) publishFor(t *testing.T, q *queue.Queue, model string, n int) {
	t.Helper()
	for i := range n {
		tenant := fmt.Sprintf("tenant.%d", i)
		ticket := publish(t, q, newJob(t, func(j *job.Job) { j.Model, j.Tenant = model, tenant }))
		l[ticket.Seq] = tenant
	}
}

// drainAll fetches and acknowledges from every source until nothing comes, and checks that it is all that was published.
func (l ledger) drainAll(t *testing.T, all []*queue.Source) {
	t.Helper()
	got := ledger{}
	eventually(t, "everything is delivered", func() bool {
		for _, s := range all {
			drain(t, s, func(d *queue.Delivery) {
				got[d.Seq] = d.Envelope.Tenant
				if err := d.Ack(); err != nil {
					t.Errorf("ack: %v", err)
				}
			})
		}
		return len(got) >= len(l)
	})
	if !maps.Equal(got, l) {
		t.Errorf("published %v, delivered %v", l, got)
	}
}

func shareCount(t *testing.T, q *queue.Queue) int {
	t.Helper()
	n, err := q.Shares(t.Context(), job.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestATenantsMessagesComeFromItsShare(t *testing.T) {
	q := ready(t, nil)
	all := sources(t, q, job.Interactive, "digits")
	if shares := queue.DefaultConfig().TenantShares; len(all) != shares+1 || shareCount(t, q) != shares {
		t.Fatalf("%d sources, %d shares", len(all), shareCount(t, q))
	}
	l := ledger{}
	l.publishFor(t, q, "digits", 40)
	used := map[int]bool{}
	for share, s := range all {
		drain(t, s, func(d *queue.Delivery) {
			used[share] = true
			if want := shareOf(d.Envelope.Tenant, len(all)-1); want != share || l[d.Seq] != d.Envelope.Tenant {
				t.Errorf("tenant %q came from share %d, expected %d", d.Envelope.Tenant, share, want)
			}
			delete(l, d.Seq)
		})
	}
	if len(l) != 0 || len(used) < 2 {
		t.Errorf("%d messages did not come; shares used: %v", len(l), used)
	}
}

// oldConsumer makes a consumer as it was before lanes had shares.
func oldConsumer(t *testing.T, js jetstream.JetStream, model string) jetstream.Consumer {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), "interactive", jetstream.ConsumerConfig{
		Durable: model, FilterSubject: "sheaf.interactive." + model + ".*", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxWaiting: 2048,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// peek has the consumer look through what there is, and counts what it delivers. It waits for more, as a worker does:
// only then does the consumer look.
func peek(t *testing.T, c jetstream.Consumer) (n int) {
	t.Helper()
	batch, err := c.Fetch(1000, jetstream.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for range batch.Messages() {
		n++
	}
	return n
}

func TestAStreamOfBeforeTheSharesIsUpgraded(t *testing.T) {
	url := testserver.NATS(t)
	_, js := operator(t, url)
	old := started(t, url, 1) // with one share, a stream is as it was before
	digits, other := oldConsumer(t, js, "digits"), oldConsumer(t, js, "other")
	mine, others := ledger{}, ledger{}
	mine.publishFor(t, old, "digits", 20)
	others.publishFor(t, old, "other", 20)
	peek(t, other) // an old worker holds them; its lease lapses when it is gone
	batch, err := digits.Fetch(5)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(mine, meta.Sequence.Stream)
	}

	// A process that only publishes changes nothing: nobody would fetch from the new shares.
	q := started(t, url, 8)
	if n := shareCount(t, q); n != 1 {
		t.Fatalf("%d shares before anybody serves them", n)
	}
	all := sources(t, q, job.Interactive, "digits")
	if len(all) != 9 || shareCount(t, q) != 8 {
		t.Fatalf("%d sources, %d shares", len(all), shareCount(t, q))
	}
	// Publishers need not know. The old consumer of a model that nobody upgraded yet must not pass over its share's.
	mine.publishFor(t, old, "digits", 30)
	others.publishFor(t, old, "other", 30)
	first := 0
	for i := range 30 {
		if shareOf(fmt.Sprintf("tenant.%d", i), 8) == 0 {
			first++
		}
	}
	if n := peek(t, other); n != first || first == 0 {
		t.Errorf("the other model's old consumer delivers %d messages, expected the %d of the first share", n, first)
	}
	mine.drainAll(t, all)

	if err := js.DeleteConsumer(t.Context(), "interactive", "other"); err != nil { // instead of waiting for its leases to lapse
		t.Fatal(err)
	}
	others.drainAll(t, sources(t, q, job.Interactive, "other"))
	if s, err := js.Stream(t.Context(), "interactive"); err != nil || s.CachedInfo().State.Msgs != 0 {
		eventually(t, "the stream is empty", func() bool {
			info, err := s.Info(t.Context())
			return err == nil && info.State.Msgs == 0
		})
	}
}

// A worker of before the shares, started in the middle of an upgrade, narrows the first consumer, which then passes over
// messages of its share. The next worker that starts finds them.
func TestANarrowedConsumerBeginsAnew(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	all := sources(t, q, job.Interactive, "digits")
	_, js := operator(t, url)
	narrow := oldConsumer(t, js, "digits")
	l := ledger{}
	l.publishFor(t, q, "digits", 30)
	if n := peek(t, narrow); n != 0 {
		t.Fatalf("the narrow consumer delivers %d", n)
	}
	if err := q.EnsureConsumer(t.Context(), job.Interactive, "digits"); err != nil {
		t.Fatal(err)
	}
	l.drainAll(t, all)
}

func TestSharesAreRaisedAndNeverLowered(t *testing.T) {
	url := testserver.NATS(t)
	few := started(t, url, 3)
	early := sources(t, few, job.Interactive, "digits")
	l := ledger{}
	l.publishFor(t, few, "digits", 25)

	many := started(t, url, 7)
	if n := shareCount(t, many); len(early) != 4 || n != 3 {
		t.Fatalf("%d sources, %d shares: expected 3, until somebody serves more", len(early), n)
	}
	late := sources(t, many, job.Interactive, "digits")
	if n := shareCount(t, few); len(late) != 8 || n != 7 {
		t.Fatalf("%d sources, %d shares: expected 7", len(late), n)
	}
	l.publishFor(t, few, "digits", 25)
	again := sources(t, few, job.Interactive, "digits") // with its own setting of 3
	if len(again) != 8 || shareCount(t, few) != 7 {
		t.Errorf("%d sources, %d shares after a process with a smaller setting", len(again), shareCount(t, few))
	}
	l.drainAll(t, late)

	// A worker that opened four sources serves all eight through them.
	l = ledger{}
	l.publishFor(t, many, "digits", 50)
	l.drainAll(t, early)
}

// A waiting fetch of a worker that knows of fewer shares finds what comes later, too.
func TestAnEarlyWorkerWaitsAtLateShares(t *testing.T) {
	url := testserver.NATS(t)
	few := started(t, url, 1)
	early := sources(t, few, job.Interactive, "digits")
	many := started(t, url, 4)
	sources(t, many, job.Interactive, "digits")
	if n := shareCount(t, few); n != 4 || len(early) != 1 {
		t.Fatalf("%d shares, %d sources", n, len(early))
	}
	for i := range 12 {
		tenant := "t" + strconv.Itoa(i)
		ticket := publish(t, few, newJob(t, func(j *job.Job) { j.Tenant = tenant }))
		if d := fetch(t, early[0], 1)[0]; d.Seq != ticket.Seq || d.Envelope.Tenant != tenant {
			t.Errorf("message %d of %q came, expected %d of %q", d.Seq, d.Envelope.Tenant, ticket.Seq, tenant)
		}
	}
}

func TestALostTransformIsRestored(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	all := sources(t, q, job.Interactive, "digits")
	_, js := operator(t, url)
	l := ledger{}
	l.publishFor(t, q, "digits", 10)
	edited := streamConfig(t, js, "interactive")
	edited.SubjectTransform = nil
	if _, err := js.UpdateStream(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	l.publishFor(t, q, "digits", 10)
	if again := sources(t, q, job.Interactive, "digits"); len(again) != 9 || shareCount(t, q) != 8 {
		t.Errorf("%d sources, %d shares", len(again), shareCount(t, q))
	}
	l.publishFor(t, q, "digits", 10)
	l.drainAll(t, all)
}

// What is lowered by hand leaves nothing behind: the consumers of the shares that are not used any more are served.
func TestSharesThatAnOperatorLoweredAreServed(t *testing.T) {
	url := testserver.NATS(t)
	sources(t, started(t, url, 8), job.Interactive, "digits")
	q := started(t, url, 2)
	l := ledger{}
	l.publishFor(t, q, "digits", 20)
	_, js := operator(t, url)
	edited := streamConfig(t, js, "interactive")
	edited.SubjectTransform.Destination = strings.Replace(edited.SubjectTransform.Destination, "partition(8", "partition(2", 1)
	if _, err := js.UpdateStream(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	all := sources(t, q, job.Interactive, "digits")
	if n := shareCount(t, q); n != 2 || len(all) != 9 {
		t.Errorf("%d shares, %d sources", n, len(all))
	}
	l.drainAll(t, all)
}

func TestAForeignTransformIsRefused(t *testing.T) {
	for name, edit := range map[string]jetstream.SubjectTransformConfig{
		"destination": {Source: "sheaf.interactive.*.*", Destination: "ore.{{wildcard(1)}}.{{wildcard(2)}}"},
		"source":      {Source: "sheaf.interactive.a.*", Destination: "sheaf.interactive.a.{{wildcard(1)}}.{{partition(8,1)}}"},
		"too many":    {Source: "sheaf.interactive.*.*", Destination: "sheaf.interactive.{{wildcard(1)}}.{{wildcard(2)}}.{{partition(65,2)}}"},
	} {
		t.Run(name, func(t *testing.T) {
			url := testserver.NATS(t)
			q := started(t, url, 1)
			_, js := operator(t, url)
			edited := streamConfig(t, js, "interactive")
			edited.SubjectTransform = &edit
			if _, err := js.UpdateStream(t.Context(), edited); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"streams": q.EnsureStreams(t.Context()), "consumers": q.EnsureConsumer(t.Context(), job.Interactive, "digits"),
			} {
				if err == nil || !strings.Contains(err.Error(), "nats stream edit interactive") {
					t.Errorf("%s: expected an error that says what to do, got %v", what, err)
				}
			}
		})
	}
}

// A share that is added is no way around a pause, and workers that are running count on the length of a lease.
func TestANewShareIsAsItsSiblings(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.TenantShares, cfg.Interactive.AckWait, cfg.Interactive.MaxDeliver = 1, 71*time.Second, -1
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	sources(t, q, job.Interactive, "digits")
	_, js := operator(t, cfg.URL)
	until := time.Now().Add(time.Hour).UTC()
	if _, err := js.PauseConsumer(t.Context(), "interactive", "digits", until); err != nil {
		t.Fatal(err)
	}
	sources(t, started(t, cfg.URL, 3), job.Interactive, "digits")
	for _, name := range []string{"digits", "digits~1", "digits~2"} {
		consumer, err := js.Consumer(t.Context(), "interactive", name)
		if err != nil {
			t.Fatal(err)
		}
		c := consumer.CachedInfo().Config
		if c.PauseUntil == nil || !c.PauseUntil.Equal(until) || c.AckWait != 71*time.Second || c.MaxDeliver != -1 {
			t.Errorf("consumer %s: paused until %v, expected %v; %v, %d deliveries", name, c.PauseUntil, until, c.AckWait, c.MaxDeliver)
		}
	}
	cfg.Interactive.AckWait = 99 * time.Second
	for share, s := range sources(t, connect(t, cfg), job.Interactive, "digits") {
		if s.AckWait() != 99*time.Second {
			t.Errorf("share %d: leases of %v", share, s.AckWait())
		}
	}
}

func TestConsumersOfAModel(t *testing.T) {
	url := testserver.NATS(t)
	cfg := testConfig(url)
	sources(t, started(t, url, 3), job.Interactive, "digits.v1")
	_, js := operator(t, url)
	s, err := js.Stream(t.Context(), "interactive")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for info := range s.ListConsumers(t.Context()).Info() {
		c := info.Config
		got[info.Name] = c.FilterSubjects
		if c.FilterSubject != "" {
			got[info.Name] = []string{c.FilterSubject}
		}
		if c.AckWait != cfg.Interactive.AckWait || c.MaxAckPending != cfg.Interactive.MaxAckPending || c.MaxDeliver != cfg.Interactive.MaxDeliver {
			t.Errorf("consumer %s: %+v", info.Name, c)
		}
	}
	want := map[string][]string{
		"digits%2Ev1":   {"sheaf.interactive.digits%2Ev1.*", "sheaf.interactive.digits%2Ev1.*.0"},
		"digits%2Ev1~1": {"sheaf.interactive.digits%2Ev1.*.1"},
		"digits%2Ev1~2": {"sheaf.interactive.digits%2Ev1.*.2"},
		"digits%2Ev1~3": {"sheaf.interactive.digits%2Ev1.*.3"}, // the spare share's
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v", got)
	}
}

// TestALoadIsTheTenantsOwn: what a tenant that floods has waiting stands before its own next message, and hardly before
// that of a tenant of another share.
func TestALoadIsTheTenantsOwn(t *testing.T) {
	q := ready(t, nil)
	source(t, q, job.Interactive, "digits")
	flood, other := "flood", "other"
	if s := queue.DefaultConfig().TenantShares; shareOf(flood, s) == shareOf(other, s) {
		t.Fatal("the tenants share a share: the test proves nothing")
	}
	const n = 50
	for range n {
		publish(t, q, newJob(t, func(j *job.Job) { j.Tenant = flood }))
	}
	waitsFor(t, q, flood, n)
	for _, tt := range []struct {
		tenant string
		want   int
	}{{"", n}, {flood, n}, {other, 1}} {
		l, err := q.Load(t.Context(), job.Interactive, "digits", tt.tenant)
		if err != nil || l.Waiting != tt.want {
			t.Errorf("tenant %q: %d messages wait before it, %v; want %d", tt.tenant, l.Waiting, err, tt.want)
		}
	}
}
