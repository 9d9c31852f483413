package onnx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// datatypes is the content of a 2x3 tensor of each datatype, as two rows.
func datatypes() map[string][2][]byte {
	rows := map[string][2][]byte{
		"bool":  {{1, 0, 1}, {0, 0, 1}},
		"bytes": {texts("", "a", "längere Zeile"), texts("\n", "0", "🙂")},
	}
	for name, size := range map[string]int{
		"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
		"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8,
	} {
		var row [2][]byte
		for i := range 6 * size {
			row[i/(3*size)] = append(row[i/(3*size)], byte(37*i+11)) // every byte another
		}
		rows[name] = row
	}
	return rows
}

func TestRunKeepsEveryDatatype(t *testing.T) {
	rt := open(t)
	for name, rows := range datatypes() {
		// The second dimension of "free" varies, so that the runtime allocates the output. FP16 and BF16 need its name.
		files := []string{"identity_" + name, "free_" + name}
		if name == "fp16" || name == "bf16" {
			files[1] = "named_" + name
		}
		for _, file := range files {
			t.Run(file, func(t *testing.T) {
				_, in := load(t, rt, file)
				for range 2 { // the second run finds the wrappers of the first
					out, err := in.Run(t.Context(), batch(2, input([]int64{2, 3}, rows[0], rows[1])))
					if err != nil {
						t.Fatal(err)
					}
					want := []job.Tensor{{Name: "y", Datatype: out[0].Datatype, Shape: []int64{2, 3}, Data: bytes.Join(rows[:], nil)}}
					if diff := cmp.Diff(want, out); diff != "" {
						t.Error(diff)
					}
				}
				// A single row after two: nothing of the larger batch may show.
				out, err := in.Run(t.Context(), batch(1, input([]int64{1, 3}, rows[1])))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out[0].Data, rows[1]) {
					t.Errorf("got %v, want %v", out[0].Data, rows[1])
				}
			})
		}
	}
}

func TestRunOfABatchIsItsRowsAlone(t *testing.T) {
	rt := open(t)
	_, in := load(t, rt, "mlp")
	const rows = 300 // more than an instance keeps wrappers for
	row := func(i int) []byte {
		var b []byte
		for k := range 64 {
			b = append(b, floats(float32((i*31+k*17)%97)/48-1)...)
		}
		return b
	}
	var alone [][]float32
	for i := range rows {
		out, err := in.Run(t.Context(), batch(1, input([]int64{1, 64}, row(i))))
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, parseFloats(t, out[0].Data))
	}
	for _, n := range []int{2, 64, rows, 3, rows} {
		var parts [][]byte
		for i := range n {
			parts = append(parts, row(i))
		}
		out, err := in.Run(t.Context(), batch(n, input([]int64{int64(n), 64}, parts...)))
		if err != nil {
			t.Fatal(err)
		}
		together := parseFloats(t, out[0].Data)
		if len(together) != n*10 {
			t.Fatalf("%d values for %d rows", len(together), n)
		}
		for i, got := range together {
			if want := alone[i/10][i%10]; math.Abs(float64(got-want)) > 1e-5 {
				t.Fatalf("batch of %d, row %d: %v, alone %v", n, i/10, got, want)
			}
		}
	}
}

func TestRunGivesTheOutputsThatAreAskedFor(t *testing.T) {
	rt := open(t)
	_, in := load(t, rt, "two_outputs")
	plusOne := job.Tensor{Name: "plus_one", Datatype: job.FP32, Shape: []int64{2, 2}, Data: floats(1, 4, 2, 1.5)}
	aboveOne := job.Tensor{Name: "above_one", Datatype: job.Bool, Shape: []int64{2, 2}, Data: []byte{0, 1, 0, 0}}
	tests := []struct {
		outputs []int
		want    []job.Tensor
	}{
		{nil, []job.Tensor{plusOne, aboveOne}},
		{[]int{1}, []job.Tensor{aboveOne}},
		{[]int{1, 0}, []job.Tensor{aboveOne, plusOne}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.outputs), func(t *testing.T) {
			b := batch(2, input([]int64{2, 2}, floats(0, 3), floats(1, 0.5)))
			b.Outputs = tt.outputs
			out, err := in.Run(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunShapes(t *testing.T) {
	rt := open(t)
	fp32 := func(name string, shape []int64, values ...float32) job.Tensor {
		return job.Tensor{Name: name, Datatype: job.FP32, Shape: shape, Data: floats(values...)}
	}
	tests := []struct {
		file  string
		batch *model.Batch
		want  []job.Tensor
	}{
		{
			"two_inputs", batch(2, input([]int64{2, 2}, floats(1, 2), floats(3, 4)), input([]int64{2, 1}, integers(10), integers(20))),
			[]job.Tensor{fp32("sum", []int64{2, 2}, 11, 12, 23, 24)},
		},
		{
			"sequence_length", batch(2, input([]int64{2, 3}, floats(1, 2, 3, 4, 5, 6))),
			[]job.Tensor{fp32("twice", []int64{2, 3}, 2, 4, 6, 8, 10, 12), fp32("total", []int64{2}, 6, 15)},
		},
		{
			"sequence_length", batch(2, input([]int64{2, 0})), // no elements, yet two rows
			[]job.Tensor{fp32("twice", []int64{2, 0}), fp32("total", []int64{2}, 0, 0)},
		},
		{
			"scalars", batch(1, input([]int64{2}, floats(1, 2)), input([]int64{}, floats(10))),
			[]job.Tensor{fp32("y", []int64{2}, 10, 20), fp32("total", []int64{}, 30)},
		},
		{
			"scalar_string", batch(1, input([]int64{2}, texts("first", "second"))),
			[]job.Tensor{{Name: "first", Datatype: job.Bytes, Shape: []int64{}, Data: texts("first")}},
		},
		{
			"constant", batch(1, input([]int64{2}, floats(1, 2))),
			[]job.Tensor{fp32("y", []int64{2}, 1, 2), fp32("w", []int64{3}, 7, 8, 9)},
		},
		{
			"passed_through", batch(2, input([]int64{2, 2}, floats(1, 2, 3, 4))),
			[]job.Tensor{fp32("y", []int64{2, 2}, 2, 4, 6, 8), fp32("x", []int64{2, 2}, 1, 2, 3, 4)},
		},
		{
			"passed_through_strings", batch(2, input([]int64{2}, texts("a", "b"))),
			[]job.Tensor{
				{Name: "y", Datatype: job.Bytes, Shape: []int64{2}, Data: texts("a", "b")},
				{Name: "x", Datatype: job.Bytes, Shape: []int64{2}, Data: texts("a", "b")},
			},
		},
		{
			"reshaped", batch(1, input([]int64{1, 4}, floats(1, 2, 3, 4))),
			[]job.Tensor{fp32("y", []int64{1, 2, 2}, 1, 2, 3, 4)},
		},
		{
			"branches", batch(2, input([]int64{2, 2}, floats(1, 2, 3, 4))),
			[]job.Tensor{fp32("y", []int64{2, 2}, 2, 4, 6, 8)},
		},
		{
			"branches", batch(2, input([]int64{2, 2}, floats(1, 2, 3, 40))), // the branch that only passes on
			[]job.Tensor{fp32("y", []int64{2, 2}, 1, 2, 3, 40)},
		},
		{
			"weight_among_inputs", batch(1, input([]int64{1, 2}, floats(1, 1))),
			[]job.Tensor{fp32("y", []int64{1, 2}, 2, 3)},
		},
		{
			"output_without_type", batch(1, input([]int64{1, 2}, floats(1, 2))),
			[]job.Tensor{fp32("y", []int64{1, 2}, 2, 4)},
		},
		{
			"labels", batch(4, input([]int64{4}, integers(2, 0, 5, 1))),
			[]job.Tensor{{Name: "y", Datatype: job.Bytes, Shape: []int64{4}, Data: texts("zwölf", "", "?", "one")}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+model.FormatShape(tt.batch.Inputs[0].Shape), func(t *testing.T) {
			_, in := load(t, rt, tt.file)
			for range 2 {
				out, err := in.Run(t.Context(), tt.batch)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, out, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestRunAlternatesShapes(t *testing.T) {
	rt := open(t)
	_, in := load(t, rt, "sequence_length")
	for _, shape := range [][2]int64{{1, 1}, {3, 500}, {2, 7}, {3, 500}, {400, 2}, {1, 1}} {
		data := make([]float32, shape[0]*shape[1])
		for i := range data {
			data[i] = float32(i)
		}
		out, err := in.Run(t.Context(), batch(int(shape[0]), input(shape[:], floats(data...))))
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range parseFloats(t, out[0].Data) {
			if got != 2*data[i] {
				t.Fatalf("shape %v: element %d is %v, want %v", shape, i, got, 2*data[i])
			}
		}
		if len(out[1].Data) != 4*int(shape[0]) {
			t.Errorf("shape %v: %d bytes of totals", shape, len(out[1].Data))
		}
	}
}

// A model whose rows influence each other, or whose outputs have other rows than its inputs, is found out when it is
// loaded: each job is then run whole and alone, and gets what a direct run gives.
func TestLoadFindsModelsThatMixTheirRows(t *testing.T) {
	rt := open(t)
	x := input([]int64{2, 2}, floats(1, 2, 3, 4))
	for file, want := range map[string][]float32{
		"mean_of_batch": {-1, -1, 1, 1}, "transposed": {1, 3, 2, 4}, "sum_of_batch": {4, 6, 0},
	} {
		t.Run(file, func(t *testing.T) {
			m, in := load(t, rt, file)
			if m.Unbatched() == nil || m.Info().Signature.Batchable || m.Info().MaxRows != 1 {
				t.Fatalf("%v, %+v: expected a model that is not batched, and why", m.Unbatched(), m.Info())
			}
			b := batch(1, x)
			if file == "sum_of_batch" {
				b = batch(1, input([]int64{2, 3}, floats(1, 2, 0), floats(3, 4, 0)))
			}
			out, err := in.Run(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if got := parseFloats(t, out[0].Data); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	for _, file := range []string{"mlp", "two_outputs", "two_inputs", "sequence_length", "identity_bytes", "identity_fp16", "identity_bf16", "identity_bool", "identity_int64"} {
		if m, _ := load(t, rt, file); m.Unbatched() != nil || !m.Info().Signature.Batchable {
			t.Errorf("%s: %v; expected a model that is batched", file, m.Unbatched())
		}
	}
}

// max_rows 1 is no batching at all: a job is run whole.
func TestNoBatchingRunsJobsWhole(t *testing.T) {
	manifest := model.DefaultManifest()
	manifest.Batching.MaxRows = 1
	m, err := open(t).Load(t.Context(), model.Version{Name: "mlp", Version: "1", Path: filepath.Join("testdata", "mlp.onnx"), Manifest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Info().Signature.Batchable || m.Unbatched() != nil {
		t.Errorf("%+v, %v", m.Info(), m.Unbatched())
	}
}

// An output with other rows than the batch must never reach a caller, since row i would be somebody else's.
func TestRunRefusesOutputsThatDoNotFollowTheBatch(t *testing.T) {
	rt := open(t)
	for _, file := range []string{"positive_rows"} {
		t.Run(file, func(t *testing.T) {
			_, in := load(t, rt, file)
			two := batch(2, input([]int64{2, 3}, floats(1, 2, 3), floats(-1, -2, -3)))
			for range 2 {
				out, err := in.Run(t.Context(), two)
				if !errors.Is(err, model.ErrRows) || !strings.Contains(err.Error(), "batching.max_rows to 1") {
					t.Fatalf("got %v, %v", out, err)
				}
			}
			one := batch(1, input([]int64{1, 3}, floats(1, 0, 0)))
			if file == "positive_rows" {
				one = batch(1, input([]int64{1, 3}, floats(1, 2, 3)))
			}
			if _, err := in.Run(t.Context(), one); err != nil {
				t.Errorf("a row alone: %v", err)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	rt := open(t)
	var invalid *job.Error
	tests := []struct {
		name      string
		file      string
		batch     *model.Batch
		want      string
		resources bool
		input     bool
	}{
		{"value out of range", "lookup", batch(2, input([]int64{2, 1}, integers(1, 99))), "out of data bounds", false, false},
		{"too much memory", "huge", batch(1, input([]int64{2}, integers(1<<24, 1<<24))), "out of resources", true, false},
		{"too much memory for one of two rows", "hungry", batch(2, input([]int64{2, 1}, integers(3, 1<<48))), "out of resources", true, false},
		{"a size that no memory has", "hungry", batch(1, input([]int64{1, 1}, integers(1<<62))), "", false, false},
		{"NUL in a string", "identity_bytes", batch(1, input([]int64{1, 3}, texts("a", "b\x00c", "d"))), "element 1 of the batch has a NUL byte", false, true},
		{"too few inputs", "two_inputs", batch(1, input([]int64{1, 2}, floats(1, 2))), "expected 2 inputs", false, false},
		{"no rows", "fixed", batch(0, input([]int64{2, 2}, floats(1, 2, 3, 4))), "at least 1 row", false, false},
		{"another rank", "fixed", batch(1, input([]int64{4}, floats(1, 2, 3, 4))), "expected shape [2,2]", false, false},
		{"another dimension", "identity_fp32", batch(1, input([]int64{1, 2}, floats(1, 2))), "expected shape [-1,3] with 1 rows, got [1,2]", false, false},
		{"rows that disagree", "identity_fp32", batch(2, input([]int64{1, 3}, floats(1, 2, 3))), "with 2 rows, got [1,3]", false, false},
		{"negative dimension", "free_fp32", batch(1, input([]int64{1, -3}, floats(1, 2, 3))), "got [1,-3]", false, false},
		{"huge dimension", "free_fp32", batch(1, input([]int64{1, 1 << 40}, floats(1, 2, 3))), "too many elements", false, false},
		{"too little data", "identity_fp32", batch(1, input([]int64{1, 3}, floats(1, 2))), "do not add up", false, false},
		{"too much data", "identity_fp32", batch(1, input([]int64{1, 3}, floats(1, 2), floats(3, 4))), "do not add up", false, false},
		{"too few strings", "identity_bytes", batch(1, input([]int64{1, 3}, texts("a", "b"))), "do not add up", false, false},
		{"too many strings", "identity_bytes", batch(1, input([]int64{1, 3}, texts("a", "b", "c", "d"))), "do not add up", false, false},
		{"half a string", "identity_bytes", batch(1, input([]int64{1, 3}, texts("a", "b", "c")[:14])), "do not add up", false, false},
		{"half a scalar", "scalars", batch(1, input([]int64{2}, floats(1, 2)), input([]int64{}, []byte{1, 2})), "do not add up", false, false},
		{"unknown output", "fixed", &model.Batch{Rows: 1, Inputs: []model.BatchInput{input([]int64{2, 2}, floats(1, 2, 3, 4))}, Outputs: []int{1}}, "an output from 0 to 0, got 1", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, in := load(t, rt, tt.file)
			out, err := in.Run(t.Context(), tt.batch)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, error %v, want %q", out, err, tt.want)
			}
			if got := errors.Is(err, model.ErrResources); got != tt.resources {
				t.Errorf("%v is ErrResources: %v", err, got)
			}
			if got := errors.As(err, &invalid); got != tt.input {
				t.Errorf("%v is a *job.Error: %v", err, got)
			}
		})
	}
	t.Run("the instance lives on", func(t *testing.T) {
		_, in := load(t, rt, "lookup")
		for _, index := range []int64{1, 99, 2} {
			out, err := in.Run(t.Context(), batch(1, input([]int64{1, 1}, integers(index))))
			if index == 99 {
				if err == nil {
					t.Error("index 99 is in a table of 3")
				}
				continue
			}
			if err != nil || parseFloats(t, out[0].Data)[0] != float32(10*(index+1)) {
				t.Errorf("index %d: %v, %v", index, out, err)
			}
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	rt := open(t)
	_, in := load(t, rt, "loop")
	times := func(n int64) *model.Batch {
		return batch(1, input([]int64{64, 64}, make([]byte, 64*64*4)), input([]int64{}, integers(n)))
	}
	cause := errors.New("nobody waits any more")
	for range 2 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause)
		_, err := in.Run(ctx, times(1<<62)) // centuries
		cancel()
		if !errors.Is(err, cause) {
			t.Fatalf("the run ended with %v, want the cause of its context", err)
		}
		if _, err := in.Run(ctx, times(1)); !errors.Is(err, cause) {
			t.Errorf("a run with a context that has ended gives %v", err)
		}
		if _, err := in.Run(t.Context(), times(1)); err != nil {
			t.Errorf("the next run: %v", err)
		}
	}
}

func TestInstancesRunAtTheSameTime(t *testing.T) {
	rt := open(t)
	for _, file := range []string{"identity_fp32", "free_fp32", "identity_bytes"} {
		m, _ := load(t, rt, file)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				in, err := m.NewInstance()
				if err != nil {
					t.Error(err)
					return
				}
				defer in.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for i := range 200 {
					rows := 1 + (g+i)%9
					want := floats(make([]float32, 3*rows)...)
					if file == "identity_bytes" {
						want = texts(make([]string, 3*rows)...)
					} else {
						for k := range want {
							want[k] = byte(g*31 + i + k)
						}
					}
					out, err := in.Run(ctx, batch(rows, input([]int64{int64(rows), 3}, want)))
					if err != nil || !bytes.Equal(out[0].Data, want) {
						t.Errorf("%s, goroutine %d, run %d: %v", file, g, i, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestCloseWaitsForTheRun(t *testing.T) {
	rt := open(t)
	m, in := load(t, rt, "loop")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		close(started)
		_, err := in.Run(ctx, batch(1, input([]int64{64, 64}, make([]byte, 64*64*4)), input([]int64{}, integers(1<<62))))
		done <- err
	}()
	<-started
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("a run of centuries has succeeded")
	}
}
