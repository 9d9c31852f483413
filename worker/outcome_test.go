package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

func TestEachJobGetsItsOwnRows(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, nil)
		m.MaxRows, m.Instances = 8, 2
		r.start(m)
		var jobs []job.Job
		next := float32(0)
		for i := range 100 {
			values := make([]float32, 1+i%20) // some larger than a batch
			for k := range values {
				next++
				values[k] = next
			}
			jobs = append(jobs, doubleJob(t, values...))
		}
		a := r.publish(job.Interactive, jobs[:50]...)
		b := r.publish(job.Bulk, jobs[50:]...)
		for _, j := range jobs {
			r.wantDoubled(j)
		}
		r.wantAcked(a, b)
		if got := len(r.broker.told()); got != len(jobs) {
			t.Errorf("%d jobs were told of as done, want %d", got, len(jobs))
		}
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
	})
}

func TestResultSaysWhatHappened(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(func(*model.Batch, []float32) error { takes(time.Second); return nil })
		first, second, third := doubleJob(t, 1), doubleJob(t, 2, 3), doubleJob(t, 4)
		second.RequestID = "mine"
		r.publish(job.Interactive, first)
		r.publish(job.Interactive, second) // wait together until the first is through
		r.publish(job.Interactive, third)
		r.pass(3 * time.Second)
		got := r.wantDoubled(second)
		want := job.Timings{Queue: 0, BatchWait: time.Second, Infer: time.Second, BatchRows: 3}
		if got.Timings != want {
			t.Errorf("timings %+v, want %+v", got.Timings, want)
		}
		if got.Tenant != "default" || got.Model != "double" || got.Version != "1" || got.RequestID != "mine" || got.Attempts != 1 || got.Token == 0 {
			t.Errorf("got %+v", got)
		}
		if n := r.wantDoubled(first).Timings.BatchRows; n != 1 {
			t.Errorf("the first job ran with %d rows, want alone: nothing else was there", n)
		}
		_ = r.shutdown()
	})
}

// poison makes every run with the number in it fail.
func poison(number float32) func(*model.Batch, []float32) error {
	return func(_ *model.Batch, values []float32) error {
		if slices.Contains(values, number) {
			return fmt.Errorf("cannot double %v", number)
		}
		return nil
	}
}

func TestOneBadJobDoesNotFailItsNeighbours(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(poison(666))
		var jobs []job.Job
		for i := range 64 {
			jobs = append(jobs, doubleJob(t, float32(i)))
		}
		bad, worse := doubleJob(t, 666), doubleJob(t, 1, 666, 2)
		jobs = slices.Insert(jobs, 17, bad)
		jobs = slices.Insert(jobs, 40, worse)
		m := r.publish(job.Interactive, jobs...)
		for _, j := range jobs {
			if j.ID != bad.ID && j.ID != worse.ID {
				r.wantDoubled(j)
			}
		}
		for _, j := range []job.Job{bad, worse} {
			if got := r.wantFailed(j, job.CodeInference); !strings.Contains(got.Error.Detail, "cannot double 666") {
				t.Errorf("the error %q does not say what the runtime said", got.Error.Detail)
			}
		}
		r.wantAcked(m)
		_ = r.shutdown()
	})
}

func TestFailedPieceFailsTheWholeJob(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, poison(666))
		m.MaxRows, m.Instances = 4, 2
		r.start(m)
		values := make([]float32, 30)
		values[13] = 666
		bad, good := doubleJob(t, values...), doubleJob(t, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		sent := r.publish(job.Interactive, bad, good)
		r.wantFailed(bad, job.CodeInference)
		r.wantDoubled(good)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestPanicIsAFailure(t *testing.T) {
	inRig(t, func(r *rig) {
		r.cfg.ExpressInstances = 0
		made := 0
		m := doublerModel(1, nil)
		m.NewInstance = func() (Instance, error) {
			made++
			return &doubler{before: func(_ *model.Batch, values []float32) error {
				if slices.Contains(values, 666) {
					panic("no more")
				}
				return nil
			}}, nil
		}
		r.start(m)
		bad, good := doubleJob(t, 666), doubleJob(t, 5)
		sent := r.publish(job.Interactive, bad, good)
		r.wantFailed(bad, job.CodeInference)
		r.wantDoubled(good)
		r.wantAcked(sent)
		if made != 3 {
			t.Errorf("%d instances were made, want a new one after each of the 2 panics", made)
		}
		_ = r.shutdown()
	})
}

func TestOutputsWithTheWrongRowsReachNobody(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(out []job.Tensor)
		works bool // a job of one row by itself
	}{
		{"rows are missing", func(out []job.Tensor) {
			if n := out[0].Shape[0]; n > 1 {
				out[0].Shape = []int64{n - 1, 1}
				out[0].Data = out[0].Data[:4*(n-1)]
			}
		}, true},
		{"no batch axis", func(out []job.Tensor) { out[0].Shape = nil; out[0].Data = out[0].Data[:4] }, false},
		{"less data than the shape says", func(out []job.Tensor) { out[0].Data = out[0].Data[:2] }, false},
		{"an output of no type", func(out []job.Tensor) { out[0].Datatype = 77 }, false},
		{"strings that are cut off", func(out []job.Tensor) { out[0].Datatype = job.Bytes }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				m := doublerModel(1, nil)
				m.NewInstance = func() (Instance, error) { return &spoiled{spoil: tt.spoil}, nil }
				r.start(m)
				jobs := []job.Job{doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3)}
				sent := r.publish(job.Interactive, jobs...)
				for _, j := range jobs {
					if tt.works {
						r.wantDoubled(j)
					} else {
						r.wantFailed(j, job.CodeInference)
					}
				}
				r.wantAcked(sent)
				_ = r.shutdown()
			})
		})
	}
}

// spoiled is a doubler whose outputs are tampered with.
type spoiled struct {
	doubler
	spoil func([]job.Tensor)
}

func (s *spoiled) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	out, err := s.doubler.Run(ctx, b)
	s.spoil(out)
	return out, err
}

func TestModelThatIsNotBatchableRunsOneJobAtATime(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, func(b *model.Batch, _ []float32) error {
			if b.Rows != 1 || len(b.Inputs[0].Parts) != 1 {
				return fmt.Errorf("%d rows of %d jobs in one run", b.Rows, len(b.Inputs[0].Parts))
			}
			return nil
		})
		m.Info.Signature.Batchable = false
		m.MaxRows = 64
		r.start(m)
		jobs := []job.Job{doubleJob(t, 1, 2, 3), doubleJob(t, 4), doubleJob(t, 5, 6)}
		sent := r.publish(job.Interactive, jobs...)
		for _, j := range jobs {
			r.wantDoubled(j)
		}
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestShortOfResourcesIsTriedAgain(t *testing.T) {
	inRig(t, func(r *rig) {
		fails := 2
		r.double(func(_ *model.Batch, values []float32) error {
			if slices.Contains(values, 9) && fails > 0 {
				fails--
				return fmt.Errorf("cannot allocate: %w", model.ErrResources)
			}
			return nil
		})
		other := r.publish(job.Interactive, doubleJob(t, 1))
		j, neighbour := doubleJob(t, 9), doubleJob(t, 2)
		neighbour.Inputs[0].Shape = []int64{1, 1}
		neighbour.Outputs = []string{"y"} // another group: its batch works
		sent := r.publish(job.Interactive, j, neighbour)
		r.pass(time.Minute)
		if got := r.wantDoubled(j); got.Attempts != 3 {
			t.Errorf("%d attempts, want 3", got.Attempts)
		}
		if got := r.wantDoubled(neighbour); got.Attempts != 1 {
			t.Errorf("the neighbour took %d attempts, want 1: its record stood before the message went back", got.Attempts)
		}
		r.wantAcked(sent, other)
		if n := len(sent.retries()); n != 2 || sent.retries()[0] < r.cfg.RetryDelay/2 || sent.retries()[0] > r.cfg.RetryDelay || sent.retries()[1] < r.cfg.RetryDelay {
			t.Errorf("redelivered after %v, want twice, from %v up and growing", sent.retries(), r.cfg.RetryDelay/2)
		}
		_ = r.shutdown()
	})
}

func TestShortOfResourcesForEverIsGivenUp(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		r.double(func(*model.Batch, []float32) error { runs++; return model.ErrResources })
		j := doubleJob(t, 9)
		sent := r.publish(job.Interactive, j)
		r.pass(time.Minute)
		r.wantFailed(j, job.CodeExhausted)
		r.wantAcked(sent)
		if runs != r.cfg.MaxAttempts {
			t.Errorf("the model ran %d times, want %d", runs, r.cfg.MaxAttempts)
		}
		if len(r.broker.deadLetters()) != 1 || !strings.Contains(r.broker.deadLetters()[0], "exhausted") {
			t.Errorf("dead letters %q, want one that says exhausted", r.broker.deadLetters())
		}
		_ = r.shutdown()
	})
}

// stuck is a model that hangs at a number until it is told to stop.
type stuck struct{ doubler }

func (s *stuck) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	for _, p := range b.Inputs[0].Parts {
		if slices.Contains(floats(p), 666) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
	}
	return s.doubler.Run(ctx, b)
}

func TestRunThatTakesTooLong(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, nil)
		m.NewInstance = func() (Instance, error) { return &stuck{}, nil }
		r.start(m)
		bad, good := doubleJob(t, 666), doubleJob(t, 1)
		sent := r.publish(job.Interactive, bad, good)
		r.pass(r.cfg.RunTimeout - 1)
		r.wantUnacked(sent)
		r.pass(r.cfg.RunTimeout + time.Minute)
		if got := r.wantFailed(bad, job.CodeInference); !strings.Contains(got.Error.Detail, "too long") {
			t.Errorf("the error is %q, want that it took too long", got.Error.Detail)
		}
		r.wantDoubled(good)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestModelThatBreaksItsBatchAxisIsNoLongerBatched(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		m := doublerModel(1, nil)
		m.NewInstance = func() (Instance, error) {
			return &spoiled{spoil: func(out []job.Tensor) {
				runs++
				if n := out[0].Shape[0]; n > 1 {
					out[0].Shape = []int64{1, 1}
					out[0].Data = out[0].Data[:4]
				}
			}}, nil
		}
		r.start(m)
		r.publish(job.Interactive, doubleJob(t, 1), doubleJob(t, 2))
		runs = 0
		jobs := []job.Job{doubleJob(t, 3), doubleJob(t, 4), doubleJob(t, 5)}
		r.publish(job.Interactive, jobs...)
		for _, j := range jobs {
			r.wantDoubled(j)
		}
		if runs != len(jobs) {
			t.Errorf("%d runs for %d jobs, want one each and no more attempts at a batch", runs, len(jobs))
		}
		_ = r.shutdown()
	})
}

func TestDeadline(t *testing.T) {
	inRig(t, func(r *rig) {
		ran := map[float32]bool{}
		r.double(func(_ *model.Batch, values []float32) error {
			for _, v := range values {
				ran[v] = true
			}
			takes(10 * time.Second)
			return nil
		})
		now := time.Now()
		over, first, waits, fresh := doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3), doubleJob(t, 4)
		over.Deadline = now.Add(-time.Second)
		first.Deadline = now.Add(5 * time.Second) // passes while it runs, which is too late to stop it
		waits.Deadline = now.Add(10 * time.Second)
		fresh.Deadline = now.Add(time.Hour)
		a := r.publish(job.Interactive, over, first)
		b := r.publish(job.Interactive, waits, fresh)
		r.pass(time.Minute)
		for _, j := range []job.Job{over, waits} {
			if got := r.wantFailed(j, job.CodeExpired); got.State != job.Expired {
				t.Errorf("state %s, want expired", got.State)
			}
		}
		r.wantDoubled(first)
		r.wantDoubled(fresh)
		if ran[1] || ran[3] {
			t.Error("a job was run although its deadline had passed")
		}
		r.wantAcked(a, b)
		if len(r.broker.deadLetters()) != 0 {
			t.Errorf("dead letters %q, want none: nothing is wrong with an expired job", r.broker.deadLetters())
		}
		_ = r.shutdown()
	})
}

func TestRecordOfACancelWins(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 1)
		j.Reply = "_INBOX.me"
		canceled := job.AppendRecord(nil, &job.Result{State: job.Canceled, Model: "double", FinishedAt: time.Now(), Error: job.Errorf(job.CodeCanceled, "", "as asked")})
		r.store.set(func() { r.store.records[j.ID] = canceled })
		sent := r.publish(job.Interactive, j)
		r.wantFailed(j, job.CodeCanceled)
		r.wantAcked(sent)
		if len(r.broker.answers()) != 1 || r.broker.answers()[0].header[job.HeaderState] != "canceled" {
			t.Errorf("replies %+v, want one that says canceled", r.broker.answers())
		}
		_ = r.shutdown()
	})
}

func TestReply(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(poison(666))
		good, bad := doubleJob(t, 21), doubleJob(t, 666)
		good.Reply, bad.Reply = "_INBOX.good", "_INBOX.bad"
		r.publish(job.Interactive, good, bad)
		r.broker.publishMessage(&fakeMessage{
			header: map[string]string{job.HeaderContentType: job.ContentTypeJSON + "; charset=utf-8", job.HeaderReply: "_INBOX.json"},
			body:   []byte(`{"id":"0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11","inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[4]}]}`),
		})
		synctest.Wait()
		got := map[string]fakeReply{}
		for _, reply := range r.broker.answers() {
			got[reply.subject] = reply
		}
		if len(got) != 3 {
			t.Fatalf("got replies %v, want 3", got)
		}
		for _, want := range []struct{ subject, state, contentType, body string }{
			{"_INBOX.good", "succeeded", job.ContentTypeProtobuf, ""},
			{"_INBOX.bad", "failed", job.ContentTypeProblem, "cannot double 666"},
			{"_INBOX.json", "succeeded", job.ContentTypeJSON, `"data":[8]`},
		} {
			reply := got[want.subject]
			if reply.header[job.HeaderState] != want.state || reply.header[job.HeaderContentType] != want.contentType {
				t.Errorf("%s: header %v", want.subject, reply.header)
			}
			if !strings.Contains(string(reply.body), want.body) || len(reply.body) == 0 {
				t.Errorf("%s: body %q", want.subject, reply.body)
			}
		}
		if got["_INBOX.good"].header[job.HeaderID] != good.ID.String() {
			t.Error("a reply does not say which job it is of")
		}
		_ = r.shutdown()
	})
}

func TestInstanceThatCannotBeMade(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, nil)
		m.NewInstance = func() (Instance, error) { return nil, errors.New("no such file") }
		r.start(m)
		if err := <-r.ended; err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("Run returned %v, want why the instance cannot be made", err)
		}
		r.stop()
	})
}

// A record says when the job was finished, not when its batch was closed.
func TestFinishedAtIsAfterTheRun(t *testing.T) {
	inRig(t, func(r *rig) {
		var ended time.Time
		r.double(func(*model.Batch, []float32) error { takes(5 * time.Second); ended = time.Now(); return nil })
		j := doubleJob(t, 1)
		r.publish(job.Interactive, j)
		r.pass(10 * time.Second)
		got := r.wantDoubled(j)
		if got.FinishedAt.Before(ended.Truncate(time.Millisecond)) {
			t.Errorf("finished_at is %v before the run ended; infer %v, finished-created %v", ended.Sub(got.FinishedAt), got.Timings.Infer, got.FinishedAt.Sub(got.CreatedAt))
		}
		_ = r.shutdown()
	})
}
