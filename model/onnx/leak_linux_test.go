//go:build !race

// The race detector keeps memory of its own for every address, which cannot be told from a leak.

package onnx_test

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/sheafml/sheaf/model"
)

// Each tensor that is forgotten leaks half a kilobyte of the runtime's memory, which no profile of Go shows. So 20,000
// runs that forgot one would take 10 MB.
func TestRunsDoNotLeak(t *testing.T) {
	const runs, bound = 20_000, 4 << 20
	rt := open(t)
	tests := []struct {
		name  string
		file  string
		batch func(i int) *model.Batch
		fails bool
	}{
		{"prebuilt", "two_outputs", func(i int) *model.Batch {
			return batch(1+i%64, input([]int64{int64(1 + i%64), 2}, make([]byte, 8*(1+i%64))))
		}, false},
		{"rebuilt each time", "sequence_length", func(i int) *model.Batch {
			return batch(1, input([]int64{1, int64(1 + i%64)}, make([]byte, 4*(1+i%64))))
		}, false},
		{"strings", "identity_bytes", func(int) *model.Batch { return batch(1, input([]int64{1, 3}, texts("a", "b", "c"))) }, false},
		{"scalars", "scalars", func(int) *model.Batch {
			return batch(1, input([]int64{2}, floats(1, 2)), input([]int64{}, floats(3)))
		}, false},
		{"failing in the run", "lookup", func(int) *model.Batch { return batch(1, input([]int64{1, 1}, integers(99))) }, true},
		{"failing after the run", "positive_rows", func(int) *model.Batch { return batch(1, input([]int64{1, 3}, floats(-1, 2, 3))) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, in := load(t, rt, tt.file)
			run := func(n int) {
				for i := range n {
					if _, err := in.Run(t.Context(), tt.batch(i)); (err != nil) != tt.fails {
						t.Fatal(err)
					}
				}
			}
			run(1000)
			before := residentBytes(t)
			run(runs)
			grown := residentBytes(t) - before
			if grown > bound {
				t.Errorf("%d runs have left %d bytes", runs, grown)
			}
		})
	}
}

// residentBytes returns the memory of the process, Go's garbage given back.
func residentBytes(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(statm)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
