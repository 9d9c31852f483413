package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// short makes every run with the number in it fail for want of memory, and counts those runs.
func short(number float32, runs *int) func(*model.Batch, []float32) error {
	return func(_ *model.Batch, values []float32) error {
		if slices.Contains(values, number) {
			*runs++
			return fmt.Errorf("cannot allocate %d bytes: %w", *runs, model.ErrResources)
		}
		return nil
	}
}

// histories returns those of the dead letters.
func (r *rig) histories() [][]string {
	return looked(r.broker, func() [][]string { return slices.Clone(r.broker.histories) })
}

func TestJobIsGivenUpInItsLastAttempt(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		r.double(short(9, &runs))
		greedy := doubleJob(t, 9)
		var neighbours []job.Job
		for i := range 10 {
			neighbours = append(neighbours, doubleJob(t, float32(i+100)))
		}
		sent := r.publish(job.Interactive, slices.Insert(slices.Clone(neighbours), 4, greedy)...)
		for _, j := range neighbours {
			if got := r.wantDoubled(j); got.Attempts != 1 {
				t.Errorf("a neighbour took %d attempts, want 1", got.Attempts)
			}
		}
		r.pass(time.Minute)
		got := r.wantFailed(greedy, job.CodeExhausted)
		if got.Attempts != 5 || !strings.Contains(got.Error.Detail, "after 5 attempts") || !strings.Contains(got.Error.Detail, "cannot allocate") {
			t.Errorf("%d attempts, text %q: want 5 in both, and the cause", got.Attempts, got.Error.Detail)
		}
		r.wantAcked(sent)
		if sent.deliveries() != 5 {
			t.Errorf("%d deliveries, want 5: the last attempt decides, and not the delivery after it", sent.deliveries())
		}
		if dead := r.broker.deadLetters(); len(dead) != 1 || !strings.HasPrefix(dead[0], "1 exhausted: ") || !strings.Contains(dead[0], "cannot allocate") {
			t.Fatalf("dead letters %q, want one of one job, with the cause", dead)
		}
		history := r.histories()[0]
		if len(history) != 5 {
			t.Fatalf("history %q, want an entry for each of 5 attempts", history)
		}
		for i, entry := range history {
			if !strings.HasPrefix(entry, fmt.Sprintf("attempt %d at 2000-01-01T00:0", i+1)) || !strings.Contains(entry, " by me: ") || !strings.Contains(entry, "cannot allocate") {
				t.Errorf("entry %d is %q, want when, by whom and why", i, entry)
			}
		}
		if got := r.store.result(t, neighbours[0].ID); got.Error != nil {
			t.Errorf("a neighbour has an error: %v", got.Error)
		}
		_ = r.shutdown()
	})
}

func TestRetryOfAModel(t *testing.T) {
	for _, tt := range []struct {
		retry    Retry
		attempts int
		delays   []time.Duration // each is waited for between half of it and all of it
	}{
		{Retry{}, 5, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}},
		{Retry{MaxAttempts: 1}, 1, nil},
		{Retry{MaxAttempts: 2}, 2, []time.Duration{250 * time.Millisecond}},
		{Retry{MaxAttempts: 4, Delay: time.Second, MaxDelay: 3 * time.Second}, 4, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}},
		{Retry{MaxAttempts: 3, Delay: time.Minute}, 3, []time.Duration{time.Minute, time.Minute}},
		{Retry{MaxAttempts: 3, MaxDelay: time.Millisecond}, 3, []time.Duration{time.Millisecond, time.Millisecond}},
	} {
		t.Run(fmt.Sprintf("%+v", tt.retry), func(t *testing.T) {
			inRig(t, func(r *rig) {
				runs := 0
				m := doublerModel(1, short(9, &runs))
				m.Retry = tt.retry
				r.start(m)
				j := doubleJob(t, 9)
				sent := r.publish(job.Interactive, j)
				r.pass(time.Hour)
				if got := r.wantFailed(j, job.CodeExhausted); got.Attempts != tt.attempts || runs != tt.attempts {
					t.Errorf("%d attempts in the record, %d runs, want %d", got.Attempts, runs, tt.attempts)
				}
				delays := sent.retries()
				if len(delays) != len(tt.delays) {
					t.Fatalf("delays %v, want about %v", delays, tt.delays)
				}
				for i, d := range delays {
					if d < tt.delays[i]/2 || d > tt.delays[i] {
						t.Errorf("delay %d is %v, want %v to %v", i, d, tt.delays[i]/2, tt.delays[i])
					}
				}
				_ = r.shutdown()
			})
		})
	}
}

func TestRetryIsChecked(t *testing.T) {
	for _, bad := range []Retry{{MaxAttempts: -1}, {MaxAttempts: attemptsLimit + 1}, {Delay: -1}, {MaxDelay: -1}, {Delay: 2, MaxDelay: 1}} {
		m := doublerModel(1, nil)
		m.Retry = bad
		if _, err := newPool(DefaultConfig(), Deps{Results: newFakeStore()}, newFakeBroker(), []Model{m}); err == nil || !strings.Contains(err.Error(), "retry: ") {
			t.Errorf("%+v: got %v, want what is wrong", bad, err)
		}
	}
}

// The redelivery comes when the first deadline has passed and no later, whatever the neighbours' pauses are.
func TestRetryEndsWithTheDeadline(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		m := doublerModel(1, short(9, &runs))
		m.Retry = Retry{Delay: 10 * time.Second}
		r.start(m)
		hurried, patient := doubleJob(t, 9), doubleJob(t, 9)
		hurried.Deadline = time.Now().Add(4 * time.Second)
		sent := r.publish(job.Interactive, hurried, patient)
		if got := sent.retries(); len(got) != 1 || got[0] != 4*time.Second {
			t.Fatalf("given back with %v, want to come again at the deadline, in 4s", got)
		}
		r.pass(4*time.Second - 1)
		if r.store.record(hurried.ID) != nil {
			t.Error("the job has a record before its deadline")
		}
		r.pass(1)
		if got := r.wantFailed(hurried, job.CodeExpired); got.State != job.Expired {
			t.Errorf("the job is %s, want expired", got.State)
		}
		r.pass(time.Hour)
		r.wantFailed(patient, job.CodeExhausted)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestDeadlineOfTheModel(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, nil)
		m.Info.Deadline = 30 * time.Second
		r.start(m)
		over, just, own := doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3)
		over.CreatedAt = time.Now().Add(-30 * time.Second)
		just.CreatedAt = over.CreatedAt.Add(time.Millisecond)
		own.CreatedAt, own.Deadline = over.CreatedAt, time.Now().Add(time.Hour)
		sent := r.publish(job.Interactive, over, just, own)
		r.wantFailed(over, job.CodeExpired)
		r.wantDoubled(just)
		r.wantDoubled(own)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

// A message that comes back for reasons that are none of its jobs' costs them no attempt.
func TestDeliveriesAreNotAttempts(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 1)
		r.redeliver(90, j)
		if got := r.wantDoubled(j); got.Attempts != 2 {
			t.Errorf("%d attempts, want 2: the first delivery and this", got.Attempts)
		}
		_ = r.shutdown()
	})
}

func TestLastAttemptWhoseDeadLetterCannotBeWritten(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		r.double(short(9, &runs))
		r.broker.locked(func() { r.broker.buryFails = errors.New("no NATS") })
		j := doubleJob(t, 9)
		sent := r.publish(job.Interactive, j)
		r.pass(time.Minute)
		if r.store.record(j.ID) != nil {
			t.Error("the job has a record and no dead letter")
		}
		r.wantUnacked(sent)
		r.broker.locked(func() { r.broker.buryFails = nil })
		r.pass(time.Minute)
		got := r.wantFailed(j, job.CodeExhausted)
		if runs != 5 || got.Attempts != 5 || !strings.Contains(got.Error.Detail, "cannot allocate 5 bytes") {
			t.Errorf("%d runs, %d attempts, text %q: want 5, and the cause of the last", runs, got.Attempts, got.Error.Detail)
		}
		if got := r.histories(); len(got) != 1 || len(got[0]) != 5 || !strings.Contains(got[0][4], "cannot allocate 5 bytes") {
			t.Errorf("history %q, want 5 entries", got)
		}
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestHistoryOfAJobThatKills(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 1)
		r.begun(j, 5)
		r.redeliver(5, j)
		r.wantFailed(j, job.CodeExhausted)
		history := r.histories()[0]
		if len(history) != 5 || !strings.HasPrefix(history[0], "attempt 1: ") || !strings.Contains(history[4], "nothing was heard") {
			t.Errorf("history %q, want 5 entries", history)
		}
		_ = r.shutdown()
	})
}

func TestNoteThatTheStoreRefuses(t *testing.T) {
	inRig(t, func(r *rig) {
		ran := false
		r.double(func(*model.Batch, []float32) error { ran = true; return nil })
		r.store.set(func() { r.store.finishDown = errors.New("not such a key") })
		j, next := doubleJob(t, 1), doubleJob(t, 2)
		sent := r.redeliver(1, j)
		r.pass(10 * time.Second)
		if ran {
			t.Error("the job was run alone and no note says so")
		}
		if len(sent.retries()) == 0 {
			t.Fatal("the job is held for ever")
		}
		r.store.set(func() { r.store.finishDown = nil })
		other := r.publish(job.Interactive, next)
		r.pass(time.Minute)
		r.wantDoubled(j)
		r.wantDoubled(next)
		r.wantAcked(sent, other)
		_ = r.shutdown()
	})
}

func TestResultThatIsTooLargeFailsAtOnce(t *testing.T) {
	e := &engine{info: &model.Info{}, largest: 1000}
	l := ledger{engine: e, now: time.Now()}
	m := &message{taken: time.Now()}
	tk := &task{job: &job.Job{ID: newID(t)}, message: m, attempts: 1}
	huge := job.Tensor{Name: "y", Datatype: job.Uint8, Shape: []int64{1, 1000}, Data: make([]byte, 1000)}
	l.succeed(tk, []job.Tensor{huge}, job.Timings{})
	if len(l.lines) != 1 || l.lines[0].state != job.Failed || l.lines[0].hi > 1000 {
		t.Fatalf("lines %+v, want one small failed record", l.lines)
	}
}

func TestStepsOfADeadJob(t *testing.T) {
	for name, send := range map[string]func(r *rig) job.Job{
		"refused": func(r *rig) job.Job {
			bad := doubleJob(r.t, 1)
			bad.Outputs = []string{"w"}
			r.publish(job.Interactive, bad)
			return bad
		},
		"exhausted": func(r *rig) job.Job {
			j := doubleJob(r.t, 9)
			r.publish(job.Interactive, j)
			return j
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				var steps []failpoint.Point
				r.reach = func(p failpoint.Point) {
					if strings.HasPrefix(string(p), "d") {
						steps = append(steps, p)
					}
				}
				runs := 0
				m := doublerModel(1, short(9, &runs))
				m.Retry.MaxAttempts = 1
				r.start(m)
				good := doubleJob(t, 1)
				r.publish(job.Interactive, good)
				if len(steps) > 0 {
					t.Errorf("steps %v of a job that succeeded", steps)
				}
				j := send(r)
				synctest.Wait()
				if r.store.record(j.ID) == nil {
					t.Fatal("the job has no record")
				}
				if want := []failpoint.Point{failpoint.DeadCopied, failpoint.DeadRecorded, failpoint.DeadSettled}; !slices.Equal(steps, want) {
					t.Errorf("steps %v, want %v", steps, want)
				}
				_ = r.shutdown()
			})
		})
	}
}

// The answer to the write of a note was lost, and the note stands: it is this attempt's, and no attempt more.
func TestNoteWhoseAnswerWasLost(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.forgetful = 1 })
		j := doubleJob(t, 1)
		r.redeliver(1, j)
		r.pass(time.Minute)
		if got := r.wantDoubled(j); got.Attempts != 2 {
			t.Errorf("%d attempts, want 2", got.Attempts)
		}
		_ = r.shutdown()
	})
}

// A note of an attempt whose lease has lapsed stands there: this attempt is the next.
func TestNoteOfAnotherAttempt(t *testing.T) {
	inRig(t, func(r *rig) {
		gate := make(chan struct{})
		r.store.set(func() { r.store.gate = gate })
		r.double(nil)
		j := doubleJob(t, 1)
		sent := r.redeliver(1, j) // has looked for notes, and is about to write its own
		r.store.set(func() { r.store.records[attemptNote(sent.seq, j.ID, 2)] = []byte("another's") })
		close(gate)
		synctest.Wait()
		if got := r.wantDoubled(j); got.Attempts != 3 {
			t.Errorf("%d attempts, want 3: the other counts", got.Attempts)
		}
		_ = r.shutdown()
	})
}
