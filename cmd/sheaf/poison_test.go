//go:build amd64

// The model poison kills the process by a trap that the processors of this architecture have; see generate.py.

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// fleet is workers that are started again whenever they die, as a supervisor does.
type fleet struct {
	h       *hazard
	args    []string
	workers []*pool
	deaths  int
}

func (h *hazard) fleet(t testing.TB, n int, args ...string) *fleet {
	t.Helper()
	f := &fleet{h: h, args: args, workers: make([]*pool, n)}
	for i := range f.workers {
		f.workers[i] = h.worker(t, nil, args...)
	}
	return f
}

// tend starts the dead again. Anything but poison that ends a worker ends the test.
func (f *fleet) tend(t testing.TB) {
	t.Helper()
	for i, w := range f.workers {
		if !w.dead() {
			continue
		}
		if !strings.Contains(w.text(), "SIGFPE") {
			t.Fatalf("a worker ended, and not by poison:\n%s", w.text())
		}
		f.deaths++
		f.workers[i] = &pool{process: launch(t, nil, f.h.workerArgs(f.args...)...)}
	}
}

// A thousand jobs, five of which kill the process that computes them: all others get their answers, exactly the five
// are among the dead letters, and the workers are there again.
func TestPoison(t *testing.T) {
	t.Parallel()
	const (
		jobs        = 1000
		poisons     = 5
		maxAttempts = 3
	)
	h := newHazard(t)
	f := h.fleet(t, 2, "--max-attempts", fmt.Sprint(maxAttempts))
	p := h.producer(t)

	rows := make([][4]int64, jobs)
	requests := make([]producer.Request, jobs)
	places := rand.New(rand.NewPCG(1, 14)).Perm(jobs)[:poisons]
	for i := range rows {
		rows[i] = [4]int64{int64(10_000 + i), 7, int64(-i), int64(i) << 40}
		if slices.Contains(places, i) {
			rows[i][1] = 666
		}
		requests[i] = tripleOf(rows[i])
	}
	// Most travel in company, the last hundred each in a message of its own. There is poison among both.
	tickets := sheaf(t, p, requests[:jobs-100]...)
	for _, r := range requests[jobs-100:] {
		tickets = append(tickets, single(t, p, r))
	}
	ids := idsOf(tickets)

	eventually(t, func() error {
		f.tend(t)
		missing := 0
		for _, record := range h.raw(t, ids...) {
			if record == nil {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d jobs have no record after %d deaths", missing, f.deaths)
		}
		return nil
	})

	var dead []job.ID
	for i, id := range ids {
		r := h.record(t, id)
		if r.Error != nil && r.Error.Code == job.CodeExhausted && slices.Contains(places, i) {
			dead = append(dead, id)
			if r.Attempts < 2 || r.Attempts > maxAttempts {
				t.Errorf("poison %d was tried %d times, expected 2 to %d", i, r.Attempts, maxAttempts)
			}
			continue
		}
		if err := isTriple(r, rows[i]); err != nil {
			t.Errorf("job %d: %v", i, err)
		}
	}
	if len(dead) != poisons {
		t.Errorf("%d poisons got their failed record, expected %d", len(dead), poisons)
	}
	if got := h.deadJobs(t); !sameIDs(got, dead) {
		t.Errorf("the dead letters are of the jobs %v, expected those of the poisons, %v", got, dead)
	}
	// Every death is the doing of one poison at least, and each kills alone before it is given up. In company it kills
	// once at most, since what is redelivered runs alone; with each run alone that makes maxAttempts.
	if f.deaths < poisons || f.deaths > poisons*maxAttempts {
		t.Errorf("%d deaths of workers, expected %d to %d", f.deaths, poisons, poisons*maxAttempts)
	}
	h.awaitEmpty(t)
	for i, w := range f.workers {
		if code, body := get(t, w.ops()+"/readyz"); code != http.StatusOK {
			t.Errorf("worker %d is not ready at the end: %d %s", i, code, body)
		}
	}
}

// sameIDs reports whether both have the same, in any order.
func sameIDs(a, b []job.ID) bool {
	order := func(x, y job.ID) int { return bytes.Compare(x[:], y[:]) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}

// The worker that gives a poison up is killed too, after each step of it. The job has one failed record and one dead
// letter in the end, and its neighbours have their answers.
func TestCrashWhilePoisonIsBuried(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.DeadCopied, failpoint.DeadRecorded, failpoint.DeadSettled} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			h := newHazard(t)
			h.announceModels(t)
			p := h.producer(t)
			rows := [][4]int64{{1, 2, 3, 4}, {0, 666, 0, 0}, {5, 6, 7, 8}, {9, 10, 11, 12}}
			var requests []producer.Request
			for _, row := range rows {
				requests = append(requests, tripleOf(row))
			}
			ids := idsOf(sheaf(t, p, requests...))

			// In company, alone, and then it is given up.
			const deaths = 2
			for n := 0; ; n++ {
				w := h.launchWorker(t, armedAt(point, 1), "--max-attempts", "1")
				w.awaitDeath()
				if !strings.Contains(w.text(), "SIGFPE") {
					break
				}
				if n == deaths {
					t.Fatalf("after %d deaths the poison is not given up", n)
				}
			}
			h.worker(t, nil, "--max-attempts", "1")
			for i, id := range ids {
				r := h.record(t, id)
				if i == 1 {
					if r.State != job.Failed || r.Error == nil || r.Error.Code != job.CodeExhausted {
						t.Errorf("the poison %s; expected that its attempts are used up", outcome(r))
					}
				} else if err := isTriple(r, rows[i]); err != nil {
					t.Errorf("neighbour %d: %v", i, err)
				}
			}
			h.awaitEmpty(t)
			if got := h.deadJobs(t); !slices.Equal(got, ids[1:2]) {
				t.Errorf("the dead letters are of the jobs %v, expected one of the poison, %v", got, ids[1])
			}
		})
	}
}

// A job that is being computed again and again when the poison of another model ends the process is no poison.
func TestPoisonSparesOtherModels(t *testing.T) {
	t.Parallel()
	const maxAttempts = 3
	h := newHazard(t)
	f := h.fleet(t, 1, "--max-attempts", fmt.Sprint(maxAttempts))
	p := h.producer(t)
	thousands := longer(t, h, p, 2*hazardAckWait)
	innocent := single(t, p, slowJob(thousands, 1))
	f.workers[0].awaitGauge(t, inFlight, 1)
	poison := single(t, p, tripleOf([4]int64{666}))

	eventually(t, func() error {
		f.tend(t)
		if records := h.raw(t, innocent.ID, poison.ID); records[0] == nil || records[1] == nil {
			return fmt.Errorf("not both jobs have a record after %d deaths", f.deaths)
		}
		return nil
	})
	if r := h.record(t, poison.ID); r.Error == nil || r.Error.Code != job.CodeExhausted {
		t.Errorf("the poison %s; expected that its attempts are used up", outcome(r))
	}
	if err := isSlowAnswer(h.record(t, innocent.ID), 1); err != nil {
		t.Errorf("the job of the other model: %v", err)
	}
	if got := h.deadJobs(t); !slices.Equal(got, []job.ID{poison.ID}) {
		t.Errorf("the dead letters are of the jobs %v, expected one of the poison, %v", got, poison.ID)
	}
}
