package batch_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/internal/testserver"
)

const crashLines = 300

// A runner that is killed right after a step leaves a batch that another brings to the same end: each line once.
func TestARunnerThatIsKilledIsTakenOverFrom(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, c := range []struct {
		at failpoint.Point
		n  int
	}{
		{failpoint.BatchValidated, 1},
		{failpoint.BatchStored, 1},
		{failpoint.BatchStored, 3},
		{failpoint.BatchCommitted, 1},
		{failpoint.BatchCommitted, 4},
		{failpoint.BatchEnded, 1},
		{failpoint.BatchTold, 1},
		{failpoint.BatchSettled, 1},
	} {
		t.Run(string(c.at), func(t *testing.T) {
			// Rows come through bit by bit, so that there are several commits.
			r.gate.set(false, 0)
			first, dead := r.startKilled(c.at, c.n)
			id := first.submit(t, requests(crashLines, spoil), nil)
			second := r.start(func(cfg *batch.Config, _ *batch.Deps) { cfg.Runners = 0 })
			for done := false; !done; {
				r.gate.trickle(10)
				select {
				case <-dead:
					done = true
				case <-time.After(30 * time.Millisecond):
				case <-t.Context().Done():
				}
				if b, err := second.Get(t.Context(), tenant, id); err == nil && b.Status.Final() && c.at < failpoint.BatchEnded {
					t.Fatalf("the runner did not come to %s %d times: %+v", c.at, c.n, b)
				}
			}
			before, err := second.Get(t.Context(), tenant, id)
			if err != nil {
				t.Fatal(err)
			}
			r.gate.set(true, 0)
			third := r.start(nil)
			b := third.end(t, id, batch.Completed)
			if b.RequestCounts != (batch.Counts{Total: crashLines, Completed: crashLines - 6, Failed: 6}) || b.Rows != crashLines-6 {
				t.Errorf("%+v", b.RequestCounts)
			}
			if b.RequestCounts.Completed < before.RequestCounts.Completed {
				t.Errorf("counts went back from %+v to %+v", before.RequestCounts, b.RequestCounts)
			}
			same(t, third.outcome(t, &b), expected(crashLines))
			eventually(t, "its message is removed", func() bool {
				left, err := third.q.BatchBacklog(t.Context())
				return err == nil && left == 0
			})
			first.stop()
			second.stop()
			third.stop()
		})
	}
}

// A batch is accepted with its message: a server that dies before it has made the record leaves that to the runner.
func TestAServerThatIsKilledWhenItHasAccepted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, at := range []failpoint.Point{failpoint.BatchAccepted, failpoint.BatchRecorded} {
		server, dead := r.startKilled(at, 1)
		file := server.upload(t, requests(20, nil))
		_, _ = server.Create(t.Context(), tenant, batch.Spec{Endpoint: endpoint, InputFile: file}, batch.Once{}) // whoever asked has had no answer
		<-dead
		p := r.start(nil)
		var list []batch.Batch
		eventually(t, "the batch is there", func() bool {
			var err error
			list, _, err = p.List(t.Context(), tenant, "", 100)
			return err == nil && slices.ContainsFunc(list, func(b batch.Batch) bool { return b.InputFile == file })
		})
		b := p.end(t, list[0].ID, batch.Completed)
		if b.InputFile != file || b.RequestCounts.Completed != 20 {
			t.Errorf("%s: %+v", at, b)
		}
		p.stop()
	}
}

// Runners that end in order give their batches back at once, and none of the answers is lost.
func TestRunnersHandOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *batch.Config) { c.Lease = time.Minute }) // which nobody waits for
	r.gate.set(false, 0)
	p := r.start(nil)
	id := p.submit(t, requests(crashLines, spoil), nil)
	var done int64
	for range 4 {
		b := p.await(t, id, "it goes on", func(b *batch.Batch) bool {
			r.gate.trickle(1)
			return b.RequestCounts.Completed > done
		})
		done = b.RequestCounts.Completed
		p.stop()
		p = r.start(nil)
	}
	r.gate.set(true, 0)
	b := p.end(t, id, batch.Completed)
	same(t, p.outcome(t, &b), expected(crashLines))
}

// NATS is killed and comes back, again and again, while a batch runs.
func TestABatchOutlivesNATS(t *testing.T) {
	t.Parallel()
	server := testserver.StartNATS(t, "")
	r := newRigAt(t, server.URL(), nil)
	r.gate.set(false, 0)
	p := r.start(nil)
	id := p.submit(t, requests(crashLines, spoil), nil)
	var done int64
	for range 3 {
		b := p.await(t, id, "it goes on", func(b *batch.Batch) bool {
			r.gate.trickle(1)
			return b.RequestCounts.Completed > done
		})
		done = b.RequestCounts.Completed
		server.Kill()
		server.Start()
	}
	r.gate.set(true, 0)
	b := p.end(t, id, batch.Completed)
	same(t, p.outcome(t, &b), expected(crashLines))
}

// What makes its process die each time comes to an end.
func TestABatchThatKillsItsRunnersFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *batch.Config) { c.MaxStarts, c.Lease = 2, 300*time.Millisecond })
	p := r.start(func(c *batch.Config, _ *batch.Deps) { c.Runners = 0 })
	id := p.submit(t, requests(20, nil), nil)
	for range 3 { // the first one validates it, and so comes further
		killed, dead := r.startKilled(failpoint.BatchStored, 1)
		select {
		case <-dead:
		case <-time.After(patience):
			t.Fatal("nobody took the batch up")
		}
		killed.stop()
	}
	last := r.start(nil)
	b := last.end(t, id, batch.Failed)
	if len(b.Errors.Data) != 1 || !strings.Contains(b.Errors.Data[0].Message, "again and again") {
		t.Errorf("%+v", b.Errors)
	}
}
