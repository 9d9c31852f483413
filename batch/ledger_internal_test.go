package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

func service(t *testing.T) *Service {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = testserver.NATS(t)
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	s, err := New(DefaultConfig(), Deps{Queue: q, Models: model.NewCatalog(), Jobs: func(backfill.GatewayConfig) backfill.Jobs { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func newBatch(t *testing.T, s *Service) *record {
	t.Helper()
	u, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord(&order{ID: idOf(u), Tenant: "acme"})
	if err := s.records.create(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func taken(t *testing.T, s *Service, r *record, runner string) *ledger {
	t.Helper()
	l := &ledger{records: s.records, runner: runner, patient: time.Second, now: r}
	if err := l.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// A runner that was held up, and does not know that its batch is another's, changes nothing any more.
func TestARunnerThatHasLostItsBatchChangesNothing(t *testing.T) {
	t.Parallel()
	s := service(t)
	r := newBatch(t, s)
	count := func(n int64) func(*record) error {
		return func(r *record) error { r.Rows += n; return nil }
	}
	first := taken(t, s, r, "first")
	if err := first.change(t.Context(), count(1)); err != nil {
		t.Fatal(err)
	}
	// What its owner asks for meanwhile is no reason to stop, nor lost.
	if _, err := s.Pause(t.Context(), "acme", r.ID); err != nil {
		t.Fatal(err)
	}
	if err := first.change(t.Context(), count(10)); err != nil {
		t.Fatal(err)
	}
	second := taken(t, s, r, "second")
	if err := first.change(t.Context(), count(100)); !errors.Is(err, errTaken) {
		t.Errorf("expected that it is taken, got %v", err)
	}
	if _, err := first.refresh(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("expected that it is taken, got %v", err)
	}
	if err := second.change(t.Context(), count(1000)); err != nil {
		t.Fatal(err)
	}
	now, _, err := s.records.get(t.Context(), "acme", r.ID)
	if err != nil || now.Rows != 1011 || !now.PauseAsked || now.Runner != "second" || now.Starts != 2 {
		t.Errorf("%+v, %v", now, err)
	}
}

// A change whose answer was lost is there, and is not made twice.
func TestAChangeWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := service(t)
	l := taken(t, s, newBatch(t, s), "runner")
	lost := true
	err := l.change(t.Context(), func(r *record) error {
		r.Rows++
		if lost {
			lost = false
			// As if the write behind this had been done, and not answered.
			done, err := r.clone()
			if err != nil {
				return err
			}
			done.Change = "runner-1"
			value, err := done.encode()
			if err != nil {
				return err
			}
			return errors.Join(s.records.bucket.Update(t.Context(), "acme/"+r.ID, value, l.revision), queue.ErrUnavailable)
		}
		return nil
	})
	now, _, failed := s.records.get(t.Context(), "acme", l.now.ID)
	if err != nil || failed != nil || now.Rows != 1 || l.get().Rows != 1 {
		t.Errorf("%d rows, %v, %v", now.Rows, err, failed)
	}
}

// Whatever commits bring, an output is what was written, in segments whose number and whose rewriting stay in bounds.
func TestSegmentsOfAnOutput(t *testing.T) {
	t.Parallel()
	s := service(t)
	for name, sizes := range map[string]func(i int) int{
		"little by little": func(int) int { return 3000 },
		"all at once":      func(int) int { return 3 << 20 },
		"mixed":            func(i int) int { return 1 << (i % 20) },
	} {
		r := newBatch(t, s)
		tl := &tail{s: s, of: Results, prefix: "p"}
		var whole []byte
		commits := 200
		if name == "all at once" {
			commits = 8
		}
		for i := range commits {
			b := make([]byte, sizes(i))
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b)
			whole = append(whole, b...)
			tl.append(b, 1)
			c, err := tl.store(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			c.apply(&r.Results)
			tl.settle(c)
			for _, old := range c.replaced {
				if err := s.objects.Delete(t.Context(), old); err != nil {
					t.Fatal(err)
				}
			}
		}
		got, err := io.ReadAll(s.readOutput(t.Context(), r, Results, 0))
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s: %d of %d bytes are the same, %v", name, len(got), len(whole), err)
		}
		got, err = io.ReadAll(s.readOutput(t.Context(), r, Results, int64(len(whole)/3)))
		if err != nil || !bytes.Equal(got, whole[len(whole)/3:]) {
			t.Errorf("%s, from a third on: %d bytes, %v", name, len(got), err)
		}
		if n := r.Results.lines(); n != int64(commits) {
			t.Errorf("%s: %d lines", name, n)
		}
		if n, most := len(r.Results.Segments), 24+len(whole)/segmentBytes*2; n > most {
			t.Errorf("%s: %d segments, expected at most %d", name, n, most)
		}
	}
}

func TestDoneParts(t *testing.T) {
	t.Parallel()
	for range 100 {
		var r record
		order := rand.Perm(50)
		for i := 0; i < len(order); i += 3 {
			var parts []int64
			for _, p := range order[i:min(i+3, len(order))] {
				parts = append(parts, int64(p))
			}
			r.finish(parts)
			r.finish(parts) // once more is nothing more
			for p := range 50 {
				if want := slices.Contains(order[:min(i+3, len(order))], p); r.isDone(int64(p)) != want {
					t.Fatalf("after %v: part %d done %v", order[:i+3], p, !want)
				}
			}
		}
		if r.Done != 50 || len(r.Beyond) != 0 {
			t.Fatalf("%+v", r)
		}
	}
}

// An input is cut at the same places, however it is read.
func TestCuts(t *testing.T) {
	t.Parallel()
	var text []byte
	for i := range 1000 {
		text = fmt.Appendf(text, "line %d %s\r\n", i, bytes.Repeat([]byte{'x'}, i%37))
		if i%9 == 0 {
			text = append(text, " \t\n"...)
		}
	}
	text = append(text, "the last one has no end"...)
	for _, c := range []cut{{Lines: 7, Bytes: 1 << 20, MostLine: 1000}, {Lines: 1000, Bytes: 300, MostLine: 1000}, {Lines: 10, Bytes: 100, MostLine: 20}} {
		var first []piece
		for _, r := range []io.Reader{bytes.NewReader(text), &slowly{bytes.NewReader(text)}} {
			s, pieces, lines := newScanner(r, c), []piece(nil), 0
			for {
				p, err := s.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				pieces = append(pieces, *p)
				lines += len(p.lines)
				for _, l := range p.lines {
					if len(l.text) > c.MostLine || l.text != nil && len(bytes.TrimSpace(l.text)) != len(l.text) {
						t.Fatalf("%q", l.text)
					}
				}
			}
			if lines != 1001 || s.count != 1001 {
				t.Errorf("%+v: %d lines", c, lines)
			}
			if first == nil {
				first = pieces
			} else if !slices.EqualFunc(first, pieces, func(a, b piece) bool {
				return a.index == b.index && len(a.lines) == len(b.lines) && a.lines[0].number == b.lines[0].number
			}) {
				t.Errorf("%+v: cut at other places", c)
			}
		}
	}
}

// slowly gives a byte at a time.
type slowly struct{ r io.Reader }

func (s *slowly) Read(p []byte) (int, error) { return s.r.Read(p[:1]) }

// The names of settings that are wrong are all said at once.
func TestConfig(t *testing.T) {
	t.Parallel()
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	var bad Config
	bad.Runners = -1
	err := bad.Validate()
	for _, name := range []string{"Runners", "Flight", "MaxFileBytes", "MaxLines", "StoreBytes", "CommitEvery", "Lease", "Retention", "MaxStarts"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
	if _, err := New(good, Deps{}); err == nil {
		t.Error("a service that stands on nothing")
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := patiently(ctx, func() error {
		if calls++; calls == 3 {
			cancel()
		}
		return queue.ErrUnavailable
	})
	if !errors.Is(err, queue.ErrUnavailable) || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
