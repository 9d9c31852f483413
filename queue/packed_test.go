package queue_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// wide makes a job of rows whose data is given.
func wide(data []byte) func(*job.Job) {
	return func(j *job.Job) {
		j.Lane = job.Bulk
		j.Inputs[0].Shape, j.Inputs[0].Data = []int64{int64(len(data) / 16), 4}, data
	}
}

// What compresses well lies packed in the stream, and nobody who reads it by this package sees it: who fetches, looks up,
// buries and reads dead letters.
func TestLargeMessagesArePacked(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0, 0}, 4096)
	s := source(t, q, job.Bulk, "digits")
	stream, err := js.Stream(t.Context(), "bulk")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data   []byte
		packed bool
	}{"compresses": {plain, true}, "does not": {noise, false}, "is small": {plain[:1024], false}} {
		ticket := publish(t, q, newJob(t, wide(c.data)))
		raw, err := stream.GetMsg(t.Context(), ticket.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if packed := raw.Header.Get("Content-Encoding") == "s2" && len(raw.Data) < len(c.data)/4; packed != c.packed {
			t.Errorf("%s: %d bytes of %d, headers %v", name, len(raw.Data), len(c.data), raw.Header)
		}
		if l, err := q.Locate(t.Context(), ticket); err != nil || l.State != job.Queued {
			t.Errorf("%s: located %v, %v", name, l, err)
		}
		d := fetch(t, s, 1)[0]
		jobs, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
		if err != nil || len(jobs) != 1 || jobs[0].Err != nil || !bytes.Equal(jobs[0].Job.Inputs[0].Data, c.data) {
			t.Errorf("%s: another job came than was published: %v", name, err)
		}
		if err := q.DeadLetter(t.Context(), d, nil, name); err != nil {
			t.Fatal(err)
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range deadLetters(t, js, 3) {
		if m.Headers().Get("Content-Encoding") != "" || len(m.Data()) < 1024 {
			t.Errorf("a dead letter of %d bytes, %v", len(m.Data()), m.Headers())
		}
	}
	ticket := publish(t, q, newJob(t, wide(plain)))
	if gone, err := q.Remove(t.Context(), ticket); !gone || err != nil {
		t.Errorf("not removed: %v", err)
	}
}

// Strangers may pack too. What says that it is packed and is not is taken as it is, and so is mostly malformed, also if it
// claims to be larger than anything.
func TestStrangersPack(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, _ := operator(t, cfg.URL)
	s := source(t, q, job.Interactive, "digits")
	body := []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[7]}]}`)
	for name, c := range map[string]struct {
		data []byte
		good bool
	}{
		"packed":   {s2.Encode(nil, body), true},
		"not":      {body, true},
		"a bomb":   {[]byte{0xff, 0xff, 0xff, 0xff, 0x07, 0}, false},
		"cut off":  {s2.Encode(nil, bytes.Repeat(body, 100))[:40], false},
		"nothing":  {nil, false},
		"too long": {s2.Encode(nil, make([]byte, 65<<20)), false},
	} {
		m := &nats.Msg{Subject: "sheaf.interactive.digits.default", Data: c.data, Header: nats.Header{
			"Nats-Msg-Id": {newJob(t, nil).ID.String()}, "Content-Type": {"application/json"}, "Content-Encoding": {"s2"},
		}}
		if _, err := conn.RequestMsgWithContext(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		d := fetch(t, s, 1)[0]
		if len(d.Envelope.Body) > 64<<20 {
			t.Errorf("%s: %d bytes came of %d", name, len(d.Envelope.Body), len(c.data))
		}
		jobs, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
		if good := err == nil && len(jobs) == 1 && jobs[0].Err == nil; good != c.good {
			t.Errorf("%s: %v, %v", name, jobs, err)
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
}
