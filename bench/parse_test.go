package main

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

func TestParseHistogram(t *testing.T) {
	const page = `# HELP sheaf_worker_batch_rows Rows of a run of the model.
# TYPE sheaf_worker_batch_rows histogram
sheaf_worker_batch_rows_bucket{model="digits",le="1"} 3
sheaf_worker_batch_rows_bucket{model="digits",le="+Inf"} 7
sheaf_worker_batch_rows_sum{model="digits"} 400
sheaf_worker_batch_rows_count{model="digits"} 7
sheaf_worker_batch_rows_sum{model="a b"} 1e2
sheaf_worker_batch_rows_count{model="a b"} 3
sheaf_worker_batch_rows_other_sum 5
sheaf_worker_rows_total{model="digits"} 500
`
	if got, want := parseHistogram(page, metricBatchRows), (histogram{sum: 500, count: 10}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseHistogram(page, "absent"); got != (histogram{}) {
		t.Errorf("a histogram that is not there: got %+v", got)
	}
}

func TestMeanSince(t *testing.T) {
	before := histogram{sum: 100, count: 10}
	if got := (histogram{sum: 700, count: 20}).meanSince(before); got != 60 {
		t.Errorf("got %v, want 60", got)
	}
	if got := before.meanSince(before); got != 0 {
		t.Errorf("nothing new: got %v, want 0", got)
	}
}

func oneRow(t *testing.T) *row {
	t.Helper()
	line := `{"input":[` + strings.Repeat("1,", rowWidth-1) + `2],"label":3,"probabilities":[0.5,0.5,0,0,0,0,0,0,0,0]}`
	rows, err := readRows(strings.NewReader(line + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	return &rows[0]
}

func TestReadRows(t *testing.T) {
	r := oneRow(t)
	if len(r.data) != 4*rowWidth || math.Float32frombits(binary.LittleEndian.Uint32(r.data[4*(rowWidth-1):])) != 2 {
		t.Errorf("the pixels are not little-endian float32: %d bytes", len(r.data))
	}
	for name, text := range map[string]string{
		"empty": "", "not JSON": "digits\n", "too few pixels": `{"input":[1],"probabilities":[1]}` + "\n",
	} {
		if _, err := readRows(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCheckComparesProbabilities(t *testing.T) {
	r := oneRow(t)
	raw := func(first float32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, math.Float32bits(first))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(0.5))
		return append(b, make([]byte, 4*(classes-2))...)
	}
	for _, tt := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"equal", raw(0.5), true},
		{"within the tolerance", raw(0.500009), true},
		{"beyond it", raw(0.50002), false},
		{"NaN", raw(float32(math.NaN())), false},
		{"cut short", raw(0.5)[:39], false},
		{"nothing", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := r.check(tt.data); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInfoField(t *testing.T) {
	const info = "# Persistence\r\nloading:0\r\naof_rewrite_in_progress:1\r\n"
	if got := infoField(info, "aof_rewrite_in_progress"); got != "1" {
		t.Errorf("got %q, want 1", got)
	}
	if got := infoField(info, "aof"); got != "" {
		t.Errorf("a field that is not there: got %q", got)
	}
}

func TestVersions(t *testing.T) {
	for file, want := range map[string]string{
		"/x/libonnxruntime.so.1.27.0": "1.27.0", "libonnxruntime.1.27.0.dylib": "1.27.0",
		"libonnxruntime.so": unknown, "libonnxruntime.dylib": unknown,
	} {
		if got := libraryVersion(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if got := wordAfter("Redis server v=7.0.15 sha=0:0", "v="); got != "7.0.15" {
		t.Errorf("got %q, want 7.0.15", got)
	}
	if got := wordAfter("", "v="); got != unknown {
		t.Errorf("got %q, want %s", got, unknown)
	}
}
