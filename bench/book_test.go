package main

import (
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

func newID(t *testing.T) job.ID {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestBookCountsEachJobOnce(t *testing.T) {
	b := newBook(nil, nil, laneClasses)
	soon, late, never := newID(t), newID(t), newID(t)
	due := time.Now().Add(-time.Second)
	b.done([]job.ID{soon}) // a notice may come before its submit returns
	for _, id := range []job.ID{soon, late, never} {
		b.accept(id, entry{due: due, class: classBulk})
	}
	b.done([]job.ID{late, newID(t)})
	b.done([]job.ID{late, soon}) // told twice
	if n, open := b.finished(classBulk), b.outstanding(classBulk); n != 2 || open != 1 {
		t.Errorf("%d finished and %d open, want 2 and 1", n, open)
	}
	if n := b.finished(classInteractive); n != 0 {
		t.Errorf("%d jobs of another class", n)
	}
	latency := b.takeLatency(classBulk)
	if latency.n != 2 || latency.percentile(1) < time.Second {
		t.Errorf("latency counts from when a job was due: %+v", latency.spread())
	}
	if list := b.unfinished(time.Now()); len(list) != 1 || list[0] != never {
		t.Errorf("unfinished: %v, want %v", list, never)
	}
	b.lose()
	v := b.result()
	if v.Lost != 1 || v.Accepted != 3 || v.Finished != 2 || v.failure() == nil || !strings.Contains(v.Evidence[0], never.String()) {
		t.Errorf("got %+v", v)
	}
}

func TestBookComparesAShare(t *testing.T) {
	b := newBook(nil, nil, laneClasses)
	b.classes[classBulk].share = 3
	for i := range 9 {
		for class := range laneClasses {
			id := newID(t)
			b.accept(id, entry{due: time.Now(), class: class, sample: i})
			b.done([]job.ID{id})
		}
	}
	if n := len(b.takeFindings()); n != 9+3 {
		t.Errorf("%d results are to be compared, want all 9 of one lane and 3 of the other", n)
	}
}

func TestJudgeFindsWrongResults(t *testing.T) {
	load := &workload{output: "y", tolerance: 1e-5, samples: []sample{{expected: rawFloats([]float32{1, 2})}}}
	b := newBook(load, nil, 1)
	b.judge(finding{id: newID(t)}, nil)
	b.judge(finding{id: newID(t)}, []byte("nonsense"))
	if v := b.result(); v.Wrong != 2 || v.Compared != 2 || v.failure() == nil {
		t.Errorf("got %+v", v)
	}
}

func TestCompare(t *testing.T) {
	want := rawFloats([]float32{1, 2})
	for _, tt := range []struct {
		name string
		got  []byte
		ok   bool
	}{
		{"equal", rawFloats([]float32{1, 2}), true},
		{"within the tolerance", rawFloats([]float32{1, 2.000005}), true},
		{"beyond it", rawFloats([]float32{1, 2.1}), false},
		{"not a number", rawFloats([]float32{1, float32(nan())}), false},
		{"too short", rawFloats([]float32{1}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := compare(tt.got, want, 1e-5); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestWorkloadSurvivesItsFile(t *testing.T) {
	w := &workload{model: "m", output: "y", tolerance: 1e-4, samples: []sample{{
		inputs:   []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, 2}, Data: rawFloats([]float32{3, 4})}},
		expected: rawFloats([]float32{5}),
	}}}
	file := t.TempDir() + "/workload"
	if err := w.save(file); err != nil {
		t.Fatal(err)
	}
	got, err := loadWorkload(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.model != w.model || got.output != w.output || got.tolerance != w.tolerance || len(got.samples) != 1 {
		t.Fatalf("got %+v", got)
	}
	in := got.samples[0].inputs[0]
	if in.Name != "x" || in.Datatype != job.FP32 || in.Shape[1] != 2 || string(in.Data) != string(w.samples[0].inputs[0].Data) ||
		string(got.samples[0].expected) != string(w.samples[0].expected) {
		t.Errorf("got %+v", got.samples[0])
	}
}
