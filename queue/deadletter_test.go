package queue_test

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// deadLetters reads the dead stream, which must have n messages.
func deadLetters(t testing.TB, js jetstream.JetStream, n int) []jetstream.Msg {
	t.Helper()
	s, err := js.Stream(t.Context(), "dead")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State.Msgs; got != uint64(n) {
		t.Fatalf("expected %d dead letters, got %d", n, got)
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var list []jetstream.Msg
	for range n {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

func TestDeadLetters(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, js := operator(t, cfg.URL)
	s := source(t, q, job.Bulk, "digits.v1")
	bulk := func(j *job.Job) { j.Lane, j.Model = job.Bulk, "digits.v1" }
	jobs := newJobs(t, 3, bulk)
	if _, err := q.PublishSheaf(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	// A message of a stranger, with headers that are commands to a stream.
	if err := conn.PublishMsg(&nats.Msg{
		Subject: "sheaf.bulk.digits%2Ev1.default",
		Header: nats.Header{
			"Nats-Msg-Id": {"0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"}, "Content-Type": {"application/json"},
			"nats-rollup": {"all"}, "traceparent": {"00-1-2-03"},
		},
		Data: []byte("not a request"),
	}); err != nil {
		t.Fatal(err)
	}
	got := fetch(t, s, 2)
	sheaf, strange := got[0], got[1]
	for range 2 { // the second is what a worker does that crashed after the first
		if err := q.DeadLetter(t.Context(), sheaf, []job.ID{jobs[1].ID}, "kills the process\nalways"); err != nil {
			t.Fatal(err)
		}
		if err := q.DeadLetter(t.Context(), strange, nil, "malformed"); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.DeadLetter(t.Context(), strange, []job.ID{jobs[0].ID}, "malformed"); err != nil {
		t.Fatal(err)
	}
	letters := deadLetters(t, js, 3)

	one := letters[0]
	for key, want := range map[string]string{
		queue.HeaderDeadReason:   "kills the process always",
		queue.HeaderDeadJobs:     jobs[1].ID.String(),
		queue.HeaderDeadLane:     "bulk",
		queue.HeaderDeadSubject:  "sheaf.bulk.digits%2Ev1.default",
		queue.HeaderDeadSequence: "1",
		queue.HeaderDeadAttempts: "1",
		job.HeaderContentType:    job.ContentTypeSheaf,
	} {
		if h := one.Headers().Get(key); h != want {
			t.Errorf("header %s: expected %q, got %q", key, want, h)
		}
	}
	if one.Subject() != "sheaf.dead.bulk.digits%2Ev1.default" {
		t.Errorf("subject %q", one.Subject())
	}
	env := sheaf.Envelope
	env.Body, env.Header = one.Data(), one.Headers().Get
	if decoded, err := job.DecodeMessage(&env, job.DefaultLimits()); err != nil || len(decoded) != 1 || decoded[0].Job.ID != jobs[1].ID {
		t.Errorf("the copy does not have just the job that is meant: %v, %v", decoded, err)
	}

	whole := letters[1]
	if string(whole.Data()) != "not a request" || whole.Headers().Get(job.HeaderContentType) != "application/json" ||
		whole.Headers().Get("traceparent") != "00-1-2-03" || whole.Headers().Get(queue.HeaderDeadID) != "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11" ||
		whole.Headers().Get(queue.HeaderDeadJobs) != "" {
		t.Errorf("the stranger's message is not as it came: %v %q", whole.Headers(), whole.Data())
	}
	if string(letters[2].Data()) != "not a request" {
		t.Errorf("what cannot be read is to be copied whole, got %q", letters[2].Data())
	}
}

// A message that leaves no room for what a dead letter adds is buried without its body.
func TestADeadLetterOfALargeMessage(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := source(t, q, job.Interactive, "digits")
	nc, js := operator(t, cfg.URL)
	body := make([]byte, int(nc.MaxPayload())-200)
	if _, err := js.Publish(t.Context(), "sheaf.interactive.digits.default", body); err != nil {
		t.Fatal(err)
	}
	if err := q.DeadLetter(t.Context(), fetch(t, s, 1)[0], nil, "no good"); err != nil {
		t.Fatal(err)
	}
	h := deadLetters(t, js, 1)[0].Headers()
	if h.Get(queue.HeaderDeadTruncated) != strconv.Itoa(len(body)) || h.Get(queue.HeaderDeadReason) != "no good" {
		t.Errorf("headers %v", h)
	}
}
