package job_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sheafml/sheaf/job"
)

// unusual reports whether encoding/json is more forgiving than RFC 8259 asks for: it replaces what is not UTF-8 and
// surrogates that stand alone.
func unusual(src []byte) bool {
	return !utf8.Valid(src) || bytes.Contains(bytes.ToLower(src), []byte(`\ud`))
}

func FuzzScanArray(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(byte(s.tensor.Datatype), s.json)
		f.Add(byte(s.tensor.Datatype), "["+s.json+","+s.json+"]")
	}
	for _, s := range []string{"[[1,2],[3]]", "[[],[1]]", "1e39", "[1.00000017881393432617187500]", "[-0,1E+5,65520]", `["\ud83d\ude00"]`, "[0x1]"} {
		f.Add(byte(job.FP32), s)
	}
	for _, s := range []string{
		"[1,16777217,16777219,33554434,1]", "[-0.0, -0,0.1 ,2,3]", "[1,00,1]", "[1,1.,1]", "[1,,1]", "[1,-,1]", "[1,0.000000000000001,123456789012345,1234567890123456,1]", "[[1,2,3],[4,5,6,7],[8]]", "[1,2,3,4,5,6,7,",
	} {
		f.Add(byte(job.FP32-1), s)
		f.Add(byte(job.FP64-1), s)
	}
	f.Fuzz(func(t *testing.T, kind byte, src string) {
		dt, lim := job.Datatype(kind%14+1), fuzzLimits()
		shape, data, err := job.ScanArray("input", []byte(src), dt, lim)
		if err == nil {
			tensor := job.Tensor{Name: "x", Datatype: dt, Shape: shape, Data: data}
			if err := tensor.Check("input", lim); err != nil {
				t.Fatal(err)
			}
			if got := job.AppendNestedJSON(nil, &tensor); !json.Valid(got) {
				t.Fatalf("%q was written as %q", src, got)
			}
		}
		if unusual([]byte(src)) || len(src) > lim.MaxBytes {
			return
		}
		var tree any
		d := json.NewDecoder(strings.NewReader(src))
		d.UseNumber()
		if d.Decode(&tree) != nil || !json.Valid([]byte(src)) {
			if err == nil {
				t.Fatalf("%q was accepted", src)
			}
			return
		}
		ref := reference{dt: dt, dims: []int{}}
		ok := ref.walk(tree, 0)
		n, fault := job.CheckShape("", ref.shape(), lim)
		if ok = ok && fault == nil && ref.count == n; ok != (err == nil) {
			t.Fatalf("%q as %s: got %v, encoding/json says %v", src, dt, err, ok)
		}
		if ok && (diff(ref.shape(), shape) != "" || !bytes.Equal(ref.data, data)) {
			t.Fatalf("%q as %s: got %v %x, want %v %x", src, dt, shape, data, ref.shape(), ref.data)
		}
	})
}

// reference reads a tree of encoding/json as an array of one datatype.
type reference struct {
	dt    job.Datatype
	dims  []int // of the first array of each depth
	rank  int   // of the first scalar or empty array, plus 1; 0 is unknown
	count int
	data  []byte
}

func (r *reference) shape() []int64 {
	var s []int64
	for _, d := range r.dims {
		s = append(s, int64(d))
	}
	return s
}

func (r *reference) walk(tree any, depth int) bool {
	list, ok := tree.([]any)
	if !ok {
		if r.rank == 0 {
			r.rank = depth + 1
		}
		r.count++
		return r.rank == depth+1 && r.element(tree)
	}
	if r.rank > 0 && depth >= r.rank-1 {
		return false
	}
	if depth == len(r.dims) {
		r.dims = append(r.dims, len(list))
	}
	if r.dims[depth] != len(list) {
		return false
	}
	if len(list) == 0 && r.rank == 0 {
		r.rank = depth + 2
	}
	if len(list) == 0 && r.rank != depth+2 {
		return false
	}
	for _, item := range list {
		if !r.walk(item, depth+1) {
			return false
		}
	}
	return true
}

func (r *reference) element(v any) bool {
	switch v := v.(type) {
	case bool:
		r.data = append(r.data, 0)
		if v {
			r.data[len(r.data)-1] = 1
		}
		return r.dt == job.Bool
	case string:
		r.data = job.AppendBytesElement(r.data, []byte(v))
		return r.dt == job.Bytes
	case json.Number:
		return r.number(string(v))
	}
	return false
}

func (r *reference) number(s string) bool {
	var bits uint64
	var err error
	switch r.dt {
	case job.Bool, job.Bytes:
		return false
	case job.FP64:
		var v float64
		v, err = strconv.ParseFloat(s, 64)
		bits = math.Float64bits(v)
	case job.FP32:
		var v float64
		v, err = strconv.ParseFloat(s, 32)
		bits = uint64(math.Float32bits(float32(v)))
	case job.FP16, job.BF16:
		var v float64
		v, err = strconv.ParseFloat(s, 64)
		var ok bool
		if bits, ok = nearest16(r.dt, v); !ok {
			return false
		}
	case job.Int8, job.Int16, job.Int32, job.Int64:
		var v int64
		v, err = strconv.ParseInt(s, 10, 8*r.dt.Size())
		bits = uint64(v)
	default:
		bits, err = strconv.ParseUint(s, 10, 8*r.dt.Size())
	}
	for i := range r.dt.Size() {
		r.data = append(r.data, byte(bits>>(8*i)))
	}
	return err == nil
}

var (
	positiveFP16 = sync.OnceValue(func() []float64 { return finite16(job.FP16)[:1<<15] })
	positiveBF16 = sync.OnceValue(func() []float64 { return finite16(job.BF16)[:1<<15] })
)

// nearest16 finds the nearest 16-bit float by search.
func nearest16(dt job.Datatype, v float64) (uint64, bool) {
	values := positiveFP16()
	if dt == job.BF16 {
		values = positiveBF16()
	}
	a := math.Abs(v)
	largest := sort.Search(len(values), func(i int) bool { return math.IsNaN(values[i]) }) - 1
	i := sort.Search(largest+1, func(i int) bool { return values[i] >= a })
	step := values[largest] - values[largest-1]
	switch {
	case i > largest:
		if a >= values[largest]+step/2 {
			return 0, false
		}
		i = largest
	case i > 0:
		below, above := a-values[i-1], values[i]-a
		if below < above || below == above && i%2 == 1 {
			i--
		}
	}
	bits := uint64(i)
	if math.Signbit(v) {
		bits |= 1 << 15
	}
	return bits, true
}

func FuzzDecodeRequestJSON(f *testing.F) {
	f.Add([]byte(requestX))
	f.Add([]byte(`{"inputs":[{"data":[[1,2],[3,4]],"name":"x","datatype":"INT8","shape":[2,2]}],"outputs":[{"name":"y"}],"parameters":{"a":1,"b":1.5,"c":"d","e":true}}`))
	f.Add([]byte(`{"input":[1,{"a":[null,false]}],"id":"\u00e9\n","x":-1.5e-7}`))
	f.Add([]byte(`{"inputs":[{"name":"s","shape":[2],"datatype":"BYTES","data":["a","\ud83d\ude00"]},{"name":"b","shape":[1,1],"datatype":"BOOL","data":[[true]]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var j job.Job
		extra := map[string][]byte{}
		err := job.DecodeRequestJSON(body, &j, fuzzLimits(), func(name string, value []byte) error {
			if !json.Valid(value) {
				t.Fatalf("member %q is %q", name, value)
			}
			extra[name] = value
			return nil
		})
		valid := json.Valid(body) && !unusual(body)
		if err != nil {
			e := err.(*job.Error) //nolint:errorlint // the contract is the type itself
			known := strings.Contains(e.Detail, "given twice") || strings.Contains(e.Detail, "nested more than")
			if valid && e.Code == job.CodeMalformed && !known {
				t.Fatalf("%q is JSON, got %v", body, e)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q was accepted", body)
		}
		checkJob(t, &j, fuzzLimits())
		compareRequest(t, body, &j, extra)
	})
}

// An input that is read where it stands is read as if it were cut out first.
func FuzzDecodeShortRequestJSON(f *testing.F) {
	for _, body := range []string{
		`{"input":[1,2.5,-3e2]}`, `{"input":[[1,2],[3]],"id":"x"}`, `{"id":"x", "input" : [[[true]]] ,"input":[1]}`, `{"input":["a","b"]}`, `{"input":5}`,
		`{"input":[1,"a"}`, `{"input":[]`, `{"input":[1,2],"lane":"bulk"}`, `{"input":[1,2],"inputs":[]}`, `{"input":null}`, `{"input":[1e99]}`,
	} {
		for dt := range uint8(14) {
			f.Add([]byte(body), dt)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, dt uint8) {
		short := job.ShortInput{Datatype: job.Datatype(dt)}
		var a, b job.Job
		var cut []byte
		extra := func(rest map[string]string, taken *bool) func(string, []byte) error {
			return func(name string, value []byte) error {
				if name == "input" && *taken {
					return job.Errorf(job.CodeMalformed, name, "the member is given twice")
				}
				if name == "input" {
					*taken, cut = true, value
					return nil
				}
				rest[name] = string(value)
				return nil
			}
		}
		var given bool
		restA, restB := map[string]string{}, map[string]string{}
		errB := job.DecodeRequestJSON(body, &b, fuzzLimits(), extra(restB, &given))
		whole := cut
		cut = nil
		errA := job.DecodeShortRequestJSON(body, &a, fuzzLimits(), &short, extra(restA, &short.Given))
		if diff := cmp.Diff(fmt.Sprint(errB), fmt.Sprint(errA)); diff != "" {
			t.Fatalf("%q: %s", body, diff)
		}
		if errA != nil {
			return
		}
		if diff := cmp.Diff([]any{b, restB}, []any{a, restA}, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q: %s", body, diff)
		}
		if whole == nil || cut != nil {
			if given != short.Given || !bytes.Equal(whole, cut) {
				t.Fatalf("%q: the input is %q, not %q", body, cut, whole)
			}
			return
		}
		shape, data, err := job.ScanArray("input", whole, short.Datatype, fuzzLimits())
		if err != nil || !slices.Equal(shape, short.Shape) || !bytes.Equal(data, short.Data) {
			t.Fatalf("%q: the input is %v %x, not %v %x, %v", body, short.Shape, short.Data, shape, data, err)
		}
	})
}

// compareRequest fails unless encoding/json reads the same request.
func compareRequest(t *testing.T, body []byte, j *job.Job, extra map[string][]byte) {
	t.Helper()
	top := members(t, body)
	if v, ok := top["id"]; ok && stringOf(t, v) != j.RequestID {
		t.Fatalf("id is %q, want %s", j.RequestID, v)
	}
	for name, value := range extra {
		if !bytes.Equal(top[name], value) {
			t.Fatalf("member %q is %q, want %q", name, value, top[name])
		}
	}
	var inputs, outputs []json.RawMessage
	list(t, top["inputs"], &inputs)
	list(t, top["outputs"], &outputs)
	if len(inputs) != len(j.Inputs) || len(outputs) != len(j.Outputs) {
		t.Fatalf("got %d inputs and %d outputs, want %d and %d", len(j.Inputs), len(j.Outputs), len(inputs), len(outputs))
	}
	for i := range outputs {
		if want := stringOf(t, members(t, outputs[i])["name"]); j.Outputs[i] != want {
			t.Fatalf("output %d is %q, want %q", i, j.Outputs[i], want)
		}
	}
	for i := range inputs {
		in, got := members(t, inputs[i]), j.Inputs[i]
		var shape []int64
		list(t, in["shape"], &shape)
		if stringOf(t, in["name"]) != got.Name || stringOf(t, in["datatype"]) != got.Datatype.String() || diff(shape, got.Shape) != "" {
			t.Fatalf("input %d is %+v, want %s", i, got, inputs[i])
		}
		var tree any
		d := json.NewDecoder(bytes.NewReader(in["data"]))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		ref := reference{dt: got.Datatype}
		if !ref.walk(tree, 0) || !bytes.Equal(ref.data, got.Data) {
			t.Fatalf("input %d holds %x, want %x", i, got.Data, ref.data)
		}
	}
}

func members(t *testing.T, raw []byte) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return m
}

func list[T any](t *testing.T, raw json.RawMessage, into *[]T) {
	t.Helper()
	if raw == nil {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
}

// stringOf reads a string or null as encoding/json does.
func stringOf(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return s
}
