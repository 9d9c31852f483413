package worker

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// yields reports whether the calling thread steps back as far as the default says.
func yields(t *testing.T) bool {
	t.Helper()
	prio, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Error(err)
	}
	return 20-prio == DefaultConfig().YieldNice // what the system call returns
}

// A number says how long a run with it takes, in units of the model.
func TestWhichRunsYield(t *testing.T) {
	tests := []struct {
		name  string
		yield bool
		unit  time.Duration
		want  map[float32]bool // whether the run with the number yields
	}{
		{name: "a heavy model", yield: true, unit: time.Second, want: map[float32]bool{1: false, 2: true, 3: false, 10: true, 4: false}},
		{name: "a light one", yield: true, unit: time.Microsecond, want: map[float32]bool{1: false, 2: false, 3: false, 10: false, 4: false}},
		{name: "if nothing is to", unit: time.Second, want: map[float32]bool{1: false, 2: false, 3: false, 10: false, 4: false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				if !tt.yield {
					r.cfg.YieldNice = 0
				}
				var mu sync.Mutex
				got := make(map[float32]bool)
				r.double(func(_ *model.Batch, values []float32) error {
					mu.Lock()
					got[values[0]] = yields(t)
					mu.Unlock()
					takes(time.Duration(values[0]) * tt.unit)
					return nil
				})
				run := func(lane job.Lane, number float32) {
					r.publish(lane, doubleJob(t, number))
					r.pass(time.Duration(number) * tt.unit)
				}
				run(job.Bulk, 1) // what a run costs is not known yet
				run(job.Bulk, 2)
				run(job.Interactive, 3)
				r.publish(job.Bulk, doubleJob(t, 10))
				run(job.Interactive, 4) // beside it
				r.pass(time.Minute)
				for number, want := range tt.want {
					if yielded, ok := got[number]; !ok || yielded != want {
						t.Errorf("run %v: run %t, yielded %t, want %t", number, ok, yielded, want)
					}
				}
				if err := r.shutdown(); err != nil {
					t.Error(err)
				}
			})
		})
	}
	if yields(t) {
		t.Error("the thread of the test yields")
	}
}
