package queue_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// letters lists the dead letters that match.
func letters(t testing.TB, q *queue.Queue, f queue.DeadFilter) []*queue.DeadLetter {
	t.Helper()
	var list []*queue.DeadLetter
	err := q.DeadLetters(t.Context(), f, func(l *queue.DeadLetter) error {
		list = append(list, l)
		return nil
	})
	if err != nil {
		t.Fatalf("list the dead letters: %v", err)
	}
	return list
}

// bury publishes a job, fetches it and puts it among the dead letters.
func bury(t testing.TB, q *queue.Queue, reason string, change func(*job.Job)) *job.Job {
	t.Helper()
	j := newJob(t, change)
	publish(t, q, j)
	d := fetch(t, tenantSource(t, q, j.Lane, j.Model, j.Tenant), 1)[0]
	if err := q.DeadLetter(t.Context(), d, []job.ID{j.ID}, reason, "attempt 1: by a; then", "attempt 2"); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestDeadLettersByFilter(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	bury(t, q, "invalid: inputs[0]: Bad shape", nil)
	last := bury(t, q, "exhausted: 5 tries", func(j *job.Job) { j.Model, j.Tenant = "tumor.v2", "acme.x" })
	bury(t, q, "exhausted: 5 tries", func(j *job.Job) { j.Lane, j.Tenant = job.Bulk, "acme.x" })
	conn, js := operator(t, cfg.URL)
	for _, m := range []*nats.Msg{ // of strangers
		{Subject: "sheaf.dead.more.tokens.than.a.letter.has", Data: []byte("x")},
		{Subject: "sheaf.dead.interactive.digits.unknown", Header: nats.Header{queue.HeaderDeadSubject: {"sheaf.interactive.digits.a b"}, queue.HeaderDeadAttempts: {"many"}}},
	} {
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn
	all := letters(t, q, queue.DeadFilter{})
	if len(all) != 5 {
		t.Fatalf("expected 5 letters, got %d", len(all))
	}
	second := all[1]
	if second.Lane != "interactive" || second.Model != "tumor.v2" || second.Tenant != "acme.x" || second.Code != job.CodeExhausted ||
		second.Attempts != 1 || !slices.Equal(second.Jobs, []job.ID{last.ID}) || second.OriginalSeq != 2 || second.Size == 0 ||
		second.Subject != "sheaf.interactive.tumor%2Ev2.acme%2Ex" || second.Body != nil || second.Published.IsZero() ||
		!slices.Equal(second.History, []string{"attempt 1: by a, then", "attempt 2"}) {
		t.Errorf("the second letter is %+v", second)
	}
	if l := all[4]; l.Tenant != "" || l.Model != "digits" || l.Attempts != 0 {
		t.Errorf("the letter without a tenant is %+v", l)
	}
	for _, c := range []struct {
		name   string
		filter queue.DeadFilter
		want   []uint64
	}{
		{"lane", queue.DeadFilter{Lane: "bulk"}, []uint64{3}},
		{"model", queue.DeadFilter{Model: "tumor.v2"}, []uint64{2}},
		{"tenant", queue.DeadFilter{Tenant: "acme.x"}, []uint64{2, 3}},
		{"lane and tenant", queue.DeadFilter{Lane: "interactive", Tenant: "acme.x"}, []uint64{2}},
		{"reason", queue.DeadFilter{Reason: "bad shape"}, []uint64{1}},
		{"code", queue.DeadFilter{Code: job.CodeExhausted}, []uint64{2, 3}},
		{"job", queue.DeadFilter{Job: last.ID}, []uint64{2}},
		{"sequences", queue.DeadFilter{Seqs: []uint64{3, 99, 1, 3}}, []uint64{1, 3}},
		{"sequences and more", queue.DeadFilter{Seqs: []uint64{1, 2}, Model: "digits"}, []uint64{1}},
		{"the highest sequence", queue.DeadFilter{MaxSeq: 2}, []uint64{1, 2}},
		{"older", queue.DeadFilter{OlderThan: second.Time}, []uint64{1}},
		{"newer", queue.DeadFilter{NewerThan: second.Time}, []uint64{3, 4, 5}},
		{"nothing", queue.DeadFilter{Model: "nosuch"}, nil},
	} {
		var got []uint64
		for _, l := range letters(t, q, c.filter) {
			got = append(got, l.Seq)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: expected %v, got %v", c.name, c.want, got)
		}
	}
	stop := errors.New("enough")
	if err := q.DeadLetters(t.Context(), queue.DeadFilter{}, func(*queue.DeadLetter) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("expected the caller's own error, got %v", err)
	}
	f := queue.DeadFilter{Lane: "fast", Model: "a b", Tenant: "*"}
	if err := f.Validate(); err == nil || strings.Count(err.Error(), "expected")+strings.Count(err.Error(), "not a valid") != 3 {
		t.Errorf("expected three faults, got %v", err)
	}
}

func TestOneDeadLetter(t *testing.T) {
	q := ready(t, nil)
	j := bury(t, q, "inference: no", nil)
	l, err := q.DeadLetterAt(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := l.Decode()
	if err != nil || len(decoded) != 1 || decoded[0].Job.ID != j.ID || len(l.Header) == 0 {
		t.Errorf("decoded %+v, %v", decoded, err)
	}
	if _, err := q.DeadLetterAt(t.Context(), 2); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("expected that there is none, got %v", err)
	}
	for i, want := range []bool{true, false} {
		if got, err := q.RemoveDead(t.Context(), 1); err != nil || got != want {
			t.Errorf("removal %d: %v, %v", i+1, got, err)
		}
	}
}

func TestRequeue(t *testing.T) {
	q := ready(t, nil)
	old := bury(t, q, "exhausted: 5 tries", func(j *job.Job) {
		j.Lane, j.Tenant, j.RequestID, j.Reply = job.Bulk, "acme", "mine", "_INBOX.x"
		j.Deadline = time.Now().Add(time.Hour)
	})
	l, err := q.DeadLetterAt(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	first, err := q.Requeue(t.Context(), l, time.Time{})
	if err != nil || len(first) != 1 || first[0].Old != old.ID || first[0].Ticket.ID == old.ID {
		t.Fatalf("requeued %+v, %v", first, err)
	}
	if left := letters(t, q, queue.DeadFilter{}); len(left) != 0 {
		t.Errorf("%d letters are left", len(left))
	}
	// What another process does after a crash between publish and remove: it still has the letter.
	again, err := q.Requeue(t.Context(), l, time.Time{})
	if err != nil || !slices.Equal(again, first) {
		t.Errorf("the second time %+v, %v; the first time %+v", again, err, first)
	}
	s := tenantSource(t, q, job.Bulk, "digits", "acme")
	d := fetch(t, s, 1)[0]
	fetchNone(t, s)
	decoded, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
	if err != nil || len(decoded) != 1 {
		t.Fatalf("decoded %v, %v", decoded, err)
	}
	j := decoded[0].Job
	if j.ID != first[0].Ticket.ID || !j.Deadline.IsZero() || j.Reply != "" || j.RequestID != "mine" || j.CreatedAt.Before(old.CreatedAt) || len(j.Inputs) != 1 {
		t.Errorf("the new job is %+v", j)
	}
	if _, err := q.Requeue(t.Context(), &queue.DeadLetter{Seq: 1}, time.Time{}); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("a letter that is gone: %v", err)
	}
}

func TestRequeueLeavesWhatCannotBeRead(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	nc, js := operator(t, cfg.URL)
	s := source(t, q, job.Interactive, "digits")
	for _, body := range [][]byte{[]byte("no job"), make([]byte, int(nc.MaxPayload())-200)} {
		if _, err := js.Publish(t.Context(), "sheaf.interactive.digits.default", body); err != nil {
			t.Fatal(err)
		}
		if err := q.DeadLetter(t.Context(), fetch(t, s, 1)[0], nil, "no good"); err != nil {
			t.Fatal(err)
		}
	}
	good := bury(t, q, "exhausted: 5 tries", nil)
	deadline := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	outcomes := make(map[uint64]queue.DeadOutcome)
	err := q.RequeueDead(t.Context(), queue.DeadFilter{}, deadline, func(o queue.DeadOutcome) error {
		outcomes[o.Letter.Seq] = o
		return nil
	})
	if err != nil || len(outcomes) != 3 {
		t.Fatalf("%v: %v", outcomes, err)
	}
	for _, seq := range []uint64{1, 2} {
		if !errors.Is(outcomes[seq].Err, queue.ErrNotRequeued) {
			t.Errorf("letter %d: %v", seq, outcomes[seq].Err)
		}
	}
	if o := outcomes[3]; o.Err != nil || len(o.Jobs) != 1 || o.Jobs[0].Old != good.ID {
		t.Errorf("letter 3: %+v", o)
	}
	if left := letters(t, q, queue.DeadFilter{}); len(left) != 2 || !left[1].Truncated || left[1].Size != int(nc.MaxPayload())-200 {
		t.Errorf("%d letters are left", len(left))
	}
}

// What comes after the count is not touched, though it matches.
func TestPurgeCoversWhatWasCounted(t *testing.T) {
	q := ready(t, nil)
	for range 3 {
		bury(t, q, "invalid: no", nil)
	}
	counted := letters(t, q, queue.DeadFilter{Model: "digits"})
	f := queue.DeadFilter{Model: "digits", MaxSeq: counted[len(counted)-1].Seq}
	bury(t, q, "invalid: no", nil)
	purged := 0
	err := q.PurgeDead(t.Context(), f, func(o queue.DeadOutcome) error {
		if o.Err == nil {
			purged++
		}
		return nil
	})
	if left := letters(t, q, queue.DeadFilter{}); err != nil || purged != 3 || len(left) != 1 || left[0].Seq != 4 {
		t.Errorf("purged %d, %d letters left, %v", purged, len(left), err)
	}
}

// However many letters there are, and however large, few of them are in memory.
func TestManyDeadLettersInLittleMemory(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	const n = 100_000
	body := make([]byte, 1000)
	for i := range n {
		m := &nats.Msg{
			Subject: fmt.Sprintf("sheaf.dead.bulk.m%d.default", i%10), Data: body,
			Header: nats.Header{queue.HeaderDeadReason: {"invalid: x"}, queue.HeaderDeadSubject: {fmt.Sprintf("sheaf.bulk.m%d.default", i%10)}},
		}
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 { // more than nats.go has in flight at a time it refuses after a moment
			<-js.PublishAsyncComplete()
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("the letters were not stored")
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count, peak := 0, uint64(0)
	err := q.DeadLetters(t.Context(), queue.DeadFilter{Reason: "invalid"}, func(*queue.DeadLetter) error {
		if count++; count%20_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
		return nil
	})
	if err != nil || count != n {
		t.Fatalf("%d of %d letters, %v", count, n, err)
	}
	// The bodies alone have 100 MB. The embedded server's own memory is in the figure.
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the scan took %d MiB", grown>>20)
	}
	if got := len(letters(t, q, queue.DeadFilter{Model: "m3"})); got != n/10 {
		t.Errorf("%d letters of one model, expected %d", got, n/10)
	}
	count = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = q.PurgeDead(ctx, queue.DeadFilter{}, func(queue.DeadOutcome) error {
		if count++; count == 500 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || count > n/2 {
		t.Errorf("a purge that was told to stop: %d, %v", count, err)
	}
	consumers, err := js.Stream(t.Context(), "dead")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the consumers of the scans are gone", func() bool {
		info, err := consumers.Info(t.Context())
		return err == nil && info.State.Consumers == 0
	})
}

// A scan whose consumer disappears under it goes on where it was.
func TestAScanOutlivesItsConsumer(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	for range 600 {
		if _, err := js.Publish(t.Context(), "sheaf.dead.bulk.m.default", nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	err := q.DeadLetters(t.Context(), queue.DeadFilter{}, func(l *queue.DeadLetter) error {
		if got = append(got, l.Seq); len(got) == 10 {
			s, err := js.Stream(t.Context(), "dead")
			if err != nil {
				return err
			}
			names := s.ConsumerNames(t.Context())
			for name := range names.Name() {
				if err := s.DeleteConsumer(t.Context(), name); err != nil {
					return err
				}
			}
			return names.Err()
		}
		return nil
	})
	if err != nil || len(got) != 600 || !slices.IsSorted(got) {
		t.Errorf("%d letters, %v", len(got), err)
	}
}
