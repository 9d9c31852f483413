package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// hookedJob is a job that names a webhook.
func hookedJob(t testing.TB, value float32) job.Job {
	t.Helper()
	j := doubleJob(t, value)
	j.Webhook = "https://hooks.example:8443/path?secret=x"
	return j
}

func (b *fakeBroker) queued() []queue.Webhook {
	return looked(b, func() []queue.Webhook { return append([]queue.Webhook(nil), b.hooks...) })
}

func TestWebhookIsQueuedBeforeTheAck(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		r.double(countRuns(&runs))
		r.broker.locked(func() { r.broker.hooksFail = fmt.Errorf("%w: no stream", queue.ErrUnavailable); r.broker.linked = true })
		plain, hooked := doubleJob(t, 1), hookedJob(t, 2)
		alone := r.publish(job.Bulk, doubleJob(t, 3))
		sent := r.publish(job.Interactive, plain, hooked)
		r.wantAcked(alone)
		r.wantDoubled(hooked)
		r.wantUnacked(sent)
		before := runs

		r.broker.locked(func() { r.broker.hooksFail = nil })
		r.pass(time.Minute)
		r.wantAcked(sent)
		if runs != before {
			t.Errorf("%d runs for the sake of the webhook", runs-before)
		}
		got := r.broker.queued()
		want := job.Ticket{ID: hooked.ID, Lane: job.Interactive, Seq: sent.seq, Index: 1}
		if len(got) != 1 || got[0].Ticket != want || got[0].Host != "hooks.example:8443" || got[0].Tenant != job.DefaultTenant {
			t.Fatalf("queued %+v, expected one for %s", got, want)
		}
		if record := r.store.result(t, hooked.ID); !got[0].Finished.Equal(record.FinishedAt) || record.Webhook != hooked.Webhook {
			t.Errorf("queued as finished at %v, the record says %v, %q", got[0].Finished, record.FinishedAt, record.Webhook)
		}
		_ = r.shutdown()
	})
}

func TestWebhookOfEveryEnd(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		overdue, misfit, canceled := hookedJob(t, 1), hookedJob(t, 2), hookedJob(t, 3)
		overdue.Deadline = time.Now().Add(-time.Second)
		misfit.Inputs[0].Name = "unknown"
		// The API's record stands, and it did not come to queue the delivery.
		r.store.set(func() {
			r.store.records[canceled.ID] = job.AppendRecord(nil, &job.Result{
				State: job.Canceled, Tenant: canceled.Tenant, Webhook: canceled.Webhook, FinishedAt: time.UnixMilli(1_750_000_000_123),
			})
		})
		for _, j := range []job.Job{overdue, misfit, canceled} {
			r.wantAcked(r.publish(job.Interactive, j))
		}
		got := r.broker.queued()
		if len(got) != 3 || got[0].Ticket.ID != overdue.ID || got[1].Ticket.ID != misfit.ID || got[2].Ticket.ID != canceled.ID {
			t.Fatalf("queued %+v", got)
		}
		if !got[2].Finished.Equal(time.UnixMilli(1_750_000_000_123)) {
			t.Errorf("finished %v, expected the time of the record that stands", got[2].Finished)
		}
		_ = r.shutdown()
	})
}

// A delivery that cannot be queued keeps what JetStream gave up.
func TestReaperQueuesWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, q := newFakeStore(), &hookedStrandings{fail: errors.New("no")}
		j := hookedJob(t, 1)
		q.strand(j)
		p, err := newPool(DefaultConfig(), Deps{Results: store}, newFakeBroker(), []Model{doublerModel(1, nil)})
		if err != nil {
			t.Fatal(err)
		}
		r := &reaper{queue: q, results: store, limits: job.DefaultLimits(), ttl: p.resultTTL, log: p.log, token: func() uint64 { return 1 }}
		if err := r.reap(t.Context(), q.messages[1]); !errors.Is(err, q.fail) || len(q.left()) != 1 {
			t.Fatalf("got %v, messages %v; expected that the message stays", err, q.left())
		}
		q.fail = nil
		if err := r.reap(t.Context(), q.messages[1]); err != nil || len(q.left()) != 0 {
			t.Fatalf("got %v, messages %v", err, q.left())
		}
		if record := store.result(t, j.ID); len(q.queued) != 1 || q.queued[0].Ticket != (job.Ticket{ID: j.ID, Seq: 1}) || !q.queued[0].Finished.Equal(record.FinishedAt) {
			t.Errorf("queued %+v", q.queued)
		}
	})
}

type hookedStrandings struct {
	fakeStrandings

	fail   error
	queued []queue.Webhook
}

func (h *hookedStrandings) QueueWebhooks(_ context.Context, list []queue.Webhook) []error {
	if h.fail != nil {
		return []error{h.fail}
	}
	h.queued = append(h.queued, list...)
	return nil
}

// countRuns counts the runs of the model.
func countRuns(runs *int) func(*model.Batch, []float32) error {
	return func(*model.Batch, []float32) error { *runs++; return nil }
}
