package worker

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/resultstore"
)

func TestRedeliveredJobsRunAloneAndOnlyIfUnfinished(t *testing.T) {
	inRig(t, func(r *rig) {
		var runs [][]float32
		r.double(func(_ *model.Batch, values []float32) error {
			runs = append(runs, slices.Clone(values))
			return nil
		})
		jobs := []job.Job{doubleJob(t, 1), doubleJob(t, 2, 3), doubleJob(t, 4), doubleJob(t, 5)}
		record := job.AppendRecord(nil, &job.Result{State: job.Succeeded, Model: "double", FinishedAt: time.Now()})
		r.store.set(func() { r.store.records[jobs[2].ID] = record })
		sent := r.redeliver(1, jobs...)
		if len(runs) != 3 || !slices.Equal(runs[0], []float32{1}) || !slices.Equal(runs[1], []float32{2, 3}) || !slices.Equal(runs[2], []float32{5}) {
			t.Errorf("runs %v, want the three jobs without a record, each alone", runs)
		}
		for _, i := range []int{0, 1, 3} {
			if got := r.wantDoubled(jobs[i]); got.Attempts != 2 {
				t.Errorf("%d attempts, want 2", got.Attempts)
			}
		}
		if !bytes.Equal(r.store.record(jobs[2].ID), record) {
			t.Error("a record that stood there was written over")
		}
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestRedeliveredJobIsSettledBeforeTheNextOneRuns(t *testing.T) {
	inRig(t, func(r *rig) {
		var jobs []job.Job
		for i := range 5 {
			jobs = append(jobs, doubleJob(t, float32(i)))
		}
		m := doublerModel(1, func(_ *model.Batch, values []float32) error {
			n := int(values[0])
			for i := range n {
				if r.store.result(t, jobs[i].ID) == nil {
					t.Errorf("job %d runs while job %d has no record", n, i)
				}
			}
			if r.store.record(attemptNote(1, jobs[n].ID, 2)) == nil {
				t.Errorf("job %d runs and no note says so", n)
			}
			return nil
		})
		m.Instances = 3
		r.start(m)
		r.wantAcked(r.redeliver(1, jobs...))
		_ = r.shutdown()
	})
}

// TestJobsThatKillTheirProcess plays the deaths of workers: the model never returns from a killer, and the pool is
// taken away without a word, its leases with it.
func TestJobsThatKillTheirProcess(t *testing.T) {
	for _, tt := range []struct {
		attempts int
		killers  []int
	}{{5, []int{5}}, {5, []int{5, 12}}, {5, []int{0, 1, 2, 18, 19}}, {1, []int{3}}, {1, []int{3, 4, 5}}, {3, []int{7, 8}}} {
		t.Run(fmt.Sprintf("%d attempts, killers %v", tt.attempts, tt.killers), func(t *testing.T) {
			inRig(t, func(r *rig) { r.killers(tt.attempts, tt.killers) })
		})
	}
}

func (r *rig) killers(attempts int, killers []int) {
	t := r.t
	t.Helper()
	r.cfg.MaxAttempts = attempts
	var jobs []job.Job
	for i := range 20 {
		jobs = append(jobs, doubleJob(t, float32(i)))
	}
	body := sheafOf(jobs...)
	deaths := 0
	for attempt := 0; ; attempt++ {
		if attempt == 30 {
			t.Fatalf("after %d attempts it is not over", attempt)
		}
		dead := make(chan struct{}) // closed when the process has died, which ends what hung in it
		died := false
		dies := func(v float32) bool { return slices.Contains(killers, int(v)) }
		letters, histories := r.broker.dead, r.broker.histories
		r.broker = newFakeBroker()
		r.broker.dead, r.broker.histories = letters, histories
		r.double(func(_ *model.Batch, values []float32) error {
			if slices.ContainsFunc(values, dies) {
				died = true
				r.store.set(func() { r.store.gate = dead }) // a dead process writes nothing
				<-dead
				return errors.New("dead")
			}
			return nil
		})
		sent := r.broker.publishMessage(delivered(attempt, body))
		synctest.Wait()
		if died {
			deaths++
			r.stop()
			close(dead)
			r.store.set(func() { r.store.gate, r.store.down = nil, resultstore.ErrUnavailable })
			if err := <-r.ended; err == nil {
				t.Error("a drain that left work behind returned nil")
			}
			r.store.set(func() { r.store.down = nil })
			continue
		}
		r.wantAcked(sent)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
		break
	}
	for i, j := range jobs {
		if !slices.Contains(killers, i) {
			r.wantDoubled(j)
			continue
		}
		got := r.wantFailed(j, job.CodeExhausted)
		if want := fmt.Sprintf("after %d attempts", got.Attempts); !strings.Contains(got.Error.Detail, want) {
			t.Errorf("the text is %q, want %q as in the record", got.Error.Detail, want)
		}
	}
	k := len(killers)
	if most := max(attempts, 2*k+1); deaths > most {
		t.Errorf("%d workers died, want at most %d", deaths, most)
	}
	if len(r.broker.dead) != k {
		t.Errorf("dead letters %q, want one for each of %d killers", r.broker.dead, k)
	}
}

// begun plays that attempts at the job, in the message that is published next, were begun up to the n-th, and that
// nothing was heard of them again. From the second run alone on, the job had the process to itself.
func (r *rig) begun(j job.Job, n int) {
	for ; n > 1; n-- {
		text := noteAlone
		if n > 2 {
			text = noteQuiet
		}
		r.noted(j, n, text)
	}
}

// noted writes the note that an attempt at the job, in the message that is published next, was begun.
func (r *rig) noted(j job.Job, n int, text string) {
	seq := looked(r.broker, func() uint64 { return uint64(len(r.broker.all) + 1) })
	e := &engine{info: &model.Info{Name: "double"}}
	r.store.set(func() { r.store.records[attemptNote(seq, j.ID, n)] = e.newNote(n, text) })
}

// TestSilenceBesideOthersProvesNothing: a job that was run alone, but never with the process to itself, is not given up,
// however often its worker died.
func TestSilenceBesideOthersProvesNothing(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 2)
		for n := 2; n <= r.cfg.MaxAttempts; n++ {
			r.noted(j, n, noteAlone)
		}
		r.redeliver(2*r.cfg.MaxAttempts, j)
		if got := r.wantDoubled(j); got.Attempts != r.cfg.MaxAttempts+1 {
			t.Errorf("%d attempts, want one more than was noted", got.Attempts)
		}
		_ = r.shutdown()
	})
}

// TestSuspectHasTheProcessToItself: nothing else runs, of whatever model, from the beginning of a suspect's run until its
// record is written; and what waits meanwhile runs then.
func TestSuspectHasTheProcessToItself(t *testing.T) {
	inRig(t, func(r *rig) {
		var running, most atomic.Int32
		var alone atomic.Bool
		slow := func(_ *model.Batch, values []float32) error {
			n := running.Add(1)
			defer running.Add(-1)
			if values[0] == 7 {
				alone.Store(true)
				defer alone.Store(false)
			}
			takes(time.Second)
			if alone.Load() && max(n, running.Load()) > 1 {
				t.Error("something runs beside the suspect")
			}
			most.Store(max(most.Load(), running.Load()))
			return nil
		}
		one, other := doublerModel(1, slow), doublerModel(1, slow)
		one.Instances = 3
		other.Info.Name, other.Instances = "other", 3
		r.start(one, other)
		suspect := doubleJob(t, 7)
		var jobs []job.Job
		for i := range 12 {
			jobs = append(jobs, doubleJob(t, float32(100+i)))
			r.publish(job.Interactive, jobs[i])
			if i == 5 {
				r.begun(suspect, 2)
				r.redeliver(2, suspect)
			}
			r.pass(300 * time.Millisecond)
		}
		r.pass(time.Minute)
		r.wantDoubled(suspect)
		for i := range jobs {
			r.wantDoubled(jobs[i])
		}
		if most.Load() < 2 {
			t.Error("nothing ever ran beside anything: the test proves nothing")
		}
		_ = r.shutdown()
	})
}

func TestMessageDeliveredOftenIsNotItsJobsFault(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		innocent, unlucky, suspect := doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3)
		r.begun(unlucky, 1+silentLimit-1)
		r.begun(suspect, 1+silentLimit)
		sent := r.redeliver(r.cfg.MaxAttempts, innocent, unlucky, suspect)
		r.wantDoubled(innocent)
		r.wantDoubled(unlucky)
		if got := r.wantFailed(suspect, job.CodeExhausted); got.Attempts != 3 || !strings.Contains(got.Error.Detail, "after 3 attempts") {
			t.Errorf("%d attempts, text %q: want 3 in both", got.Attempts, got.Error.Detail)
		}
		r.wantAcked(sent)
		if len(r.broker.deadLetters()) != 1 || !strings.HasPrefix(r.broker.deadLetters()[0], "1 exhausted") {
			t.Errorf("dead letters %q, want one, of the one job", r.broker.deadLetters())
		}
		_ = r.shutdown()
	})
}

func TestSuspectIsTriedWhileItsMessageIsNotDeliveredTooOften(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		suspect := doubleJob(t, 2)
		r.begun(suspect, 1+silentLimit)
		r.redeliver(r.cfg.MaxAttempts-1, suspect)
		r.wantDoubled(suspect)
		_ = r.shutdown()
	})
}

func TestLastAttemptIsStillMade(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		left, used := doubleJob(t, 2), doubleJob(t, 3)
		r.begun(left, r.cfg.MaxAttempts-1)
		r.begun(used, r.cfg.MaxAttempts)
		r.redeliver(r.cfg.MaxAttempts-1, left, used)
		if got := r.wantDoubled(left); got.Attempts != r.cfg.MaxAttempts {
			t.Errorf("%d attempts, want %d", got.Attempts, r.cfg.MaxAttempts)
		}
		if got := r.wantFailed(used, job.CodeExhausted); got.Attempts != r.cfg.MaxAttempts || !strings.Contains(got.Error.Detail, "process") {
			t.Errorf("%d attempts, text %q: want %d, and that it ended its process", got.Attempts, got.Error.Detail, r.cfg.MaxAttempts)
		}
		_ = r.shutdown()
	})
}

func TestRefusedJobs(t *testing.T) {
	tests := []struct {
		name  string
		code  job.Code
		spoil func(*job.Job)
	}{
		{"wrong rank", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Shape = []int64{1} }},
		{"wrong shape", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Shape = []int64{1, 2} }},
		{"wrong datatype", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Datatype = job.Int32 }},
		{"wrong name", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Name = "z" }},
		{"no inputs", job.CodeInvalid, func(j *job.Job) { j.Inputs = nil }},
		{"too little data", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Data = j.Inputs[0].Data[:3] }},
		{"zero rows", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Shape = []int64{0, 1}; j.Inputs[0].Data = nil }},
		{"negative dimension", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Shape = []int64{-1, 1} }},
		{"huge dimension", job.CodeInvalid, func(j *job.Job) { j.Inputs[0].Shape = []int64{1 << 62, 1} }},
		{"unknown output", job.CodeInvalid, func(j *job.Job) { j.Outputs = []string{"w"} }},
		{"unknown version", job.CodeUnknownModel, func(j *job.Job) { j.Version = "2" }},
	}
	inRig(t, func(r *rig) {
		r.double(nil)
		for i, tt := range tests {
			bad, good := doubleJob(t, 1), doubleJob(t, 2)
			tt.spoil(&bad)
			sent := r.publish(job.Interactive, bad, good)
			r.wantDoubled(good)
			got := r.store.result(t, bad.ID)
			if got == nil || got.State != job.Failed || got.Error.Code != tt.code {
				t.Errorf("%s: got %+v, want failed with %s", tt.name, got, tt.code)
			}
			r.wantAcked(sent)
			if len(r.broker.deadLetters()) != i+1 {
				t.Errorf("%s: %d dead letters, want one more", tt.name, len(r.broker.deadLetters()))
			}
		}
		_ = r.shutdown()
	})
}

func TestHostileMessages(t *testing.T) {
	whole := sheafOf(doubleJob(t, 1))
	inRig(t, func(r *rig) {
		r.double(nil)
		for _, contentType := range []string{job.ContentTypeSheaf, job.ContentTypeProtobuf, job.ContentTypeJSON, "", "text/html"} {
			for _, body := range [][]byte{
				nil,
				{0},
				{0xff},
				[]byte("{"), []byte("null"), []byte(`{"inputs":[]}`), []byte(`{"id":7}`), whole[:len(whole)-3], whole[5:],
				[]byte(strings.Repeat("[", 100_000)), []byte(strings.Repeat("\x0a\xff\xff\xff\xff\x0f", 1000)), []byte(`{"inputs":[{"name":"x","shape":[9223372036854775807,9223372036854775807],"datatype":"FP32","data":[1]}]}`),
			} {
				sent := r.broker.publish(job.Interactive, contentType, body)
				synctest.Wait()
				r.wantAcked(sent)
			}
		}
		if len(r.broker.deadLetters()) == 0 {
			t.Error("no dead letters")
		}
		j := doubleJob(t, 21)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
	})
}

func TestMalformedRequestWithAnIDGetsARecord(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 1)
		sent := r.broker.publishMessage(&fakeMessage{
			header: map[string]string{job.HeaderContentType: job.ContentTypeJSON, job.HeaderID: j.ID.String()}, body: []byte(`{"inputs":`),
		})
		synctest.Wait()
		r.wantFailed(j, job.CodeMalformed)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestNothingIsRefusedBeforeItIsAmongTheDeadLetters(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		bad, good := doubleJob(t, 1), doubleJob(t, 2)
		bad.Outputs = []string{"w"}
		r.broker.buryFails = errors.New("no NATS")
		sent := r.publish(job.Interactive, bad, good)
		r.wantDoubled(good)
		if r.store.result(t, bad.ID) != nil {
			t.Error("the refused job has a record and its dead letter was not written")
		}
		r.wantUnacked(sent)
		r.broker.locked(func() { r.broker.buryFails = nil })
		r.pass(time.Minute)
		r.wantFailed(bad, job.CodeInvalid)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

// While the store is down redelivered messages wait for it, and every lease that is held is kept.
func TestLeasesAreKeptWhileTriageStands(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, nil)
		m.MaxRows = 512
		r.start(m)
		for range 2000 { // warm up the window
			r.broker.publish(job.Interactive, job.ContentTypeSheaf, sheafOf(doubleJob(t, 1)))
		}
		r.pass(time.Second)
		r.store.set(func() { r.store.down = resultstore.ErrUnavailable })
		for range 2000 {
			r.broker.publishMessage(delivered(1, sheafOf(doubleJob(t, 1))))
		}
		r.pass(time.Minute)
		held, bare := 0, 0
		r.broker.locked(func() {
			for _, m := range r.broker.all {
				if m.held {
					held++
					if m.renewals == 0 {
						bare++
					}
				}
			}
		})
		if bare > 0 {
			t.Errorf("of %d messages held for a minute of AckWait %v, %d were never extended", held, r.broker.ackWait, bare)
		}
		r.store.set(func() { r.store.down = nil })
		_ = r.shutdown()
	})
}
