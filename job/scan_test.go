package job_test

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestScanArrayShape(t *testing.T) {
	tests := []struct {
		src   string
		shape []int64
		data  []byte
	}{
		{"5", nil, []byte{5}},
		{" 5 ", nil, []byte{5}},
		{"[]", []int64{0}, nil},
		{"[ ]", []int64{0}, nil},
		{"[1,2]", []int64{2}, []byte{1, 2}},
		{"\t[\n1 ,\r2 ] ", []int64{2}, []byte{1, 2}},
		{"[[1,2],[3,4],[5,6]]", []int64{3, 2}, []byte{1, 2, 3, 4, 5, 6}},
		{"[[],[]]", []int64{2, 0}, nil},
		{"[[[]]]", []int64{1, 1, 0}, nil},
		{"[[[1],[2]],[[3],[4]]]", []int64{2, 2, 1}, []byte{1, 2, 3, 4}},
	}
	for _, tt := range tests {
		shape, data, err := job.ScanArray("input", []byte(tt.src), job.Int8, job.DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", tt.src, err)
			continue
		}
		if d := diff(tt.shape, shape) + diff(tt.data, data); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.src, d)
		}
	}
}

func TestScanArrayEveryDatatype(t *testing.T) {
	for _, s := range samples(t) {
		shape, data, err := job.ScanArray("input", []byte(s.json), s.tensor.Datatype, job.DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", s.tensor.Datatype, err)
			continue
		}
		if d := diff([]int64{2}, shape) + diff(s.tensor.Data, data); d != "" {
			t.Errorf("%s (-want +got):\n%s", s.tensor.Datatype, d)
		}
	}
}

func TestScanArrayThatIsRefused(t *testing.T) {
	const ragged = "the array is ragged: expected 2 items as in those before it, got "
	tests := []struct {
		src           string
		code          job.Code
		field, detail string
	}{
		{"[[1,2],[3]]", job.CodeInvalid, "input[1]", ragged + "1"},
		{"[[1,2],[3,4,5]]", job.CodeInvalid, "input[1]", ragged + "3"},
		{"[[1,2],[]]", job.CodeInvalid, "input[1]", ragged + "0"},
		{"[[[1],[2]],[[3],[4]],[[5]]]", job.CodeInvalid, "input[2]", ragged + "1"},
		{"[[[1,2],[3,4]],[[5,6],[7]]]", job.CodeInvalid, "input[1][1]", ragged + "1"},
		{"[[],[1]]", job.CodeInvalid, "input[1]", "the array is ragged: expected 0 items as in those before it, got 1"},
		{"[1,[2]]", job.CodeInvalid, "input", "element 1: expected an integer, found an array"},
		{"[[1],2]", job.CodeInvalid, "input[1]", "expected an array like the others of its depth, found a number"},
		{"[[[1]],[2]]", job.CodeInvalid, "input[1][0]", "expected an array like the others of its depth, found a number"},
		{"[[],[[]]]", job.CodeInvalid, "input[1]", "element 0: expected an integer, found an array"},
		{"[[[[[[[[[1]]]]]]]]]", job.CodeInvalid, "input", "expected at most 8 dimensions, the array is nested deeper"},
		{strings.Repeat("[", 100_000), job.CodeInvalid, "input", "expected at most 8 dimensions, the array is nested deeper"},
		{"[1,2] 3", job.CodeMalformed, "input", "byte 6: expected the end of the text, found '3'"},
		{"[1 2]", job.CodeMalformed, "input", "byte 3: expected ',' or ']', found '2'"},
		{"[1,2", job.CodeMalformed, "input", "byte 4: the text ends here, expected ',' or ']'"},
		{"[1,", job.CodeMalformed, "input", "element 1: byte 3: the text ends here, expected an integer"},
		{"", job.CodeMalformed, "input", "element 0: byte 0: the text ends here, expected an integer"},
		{"[-]", job.CodeMalformed, "input", "element 0: byte 2: expected a digit, found ']'"},
		{"[\xff]", job.CodeMalformed, "input", "byte 1: not valid UTF-8"},
		{"[{}]", job.CodeInvalid, "input", "element 0: expected an integer, found an object"},
		{"[true]", job.CodeInvalid, "input", "element 0: expected an integer, found true"},
		{"[128]", job.CodeInvalid, "input", "element 0: 128 does not fit INT8"},
	}
	for _, tt := range tests {
		name := tt.src[:min(len(tt.src), 30)]
		t.Run(name, func(t *testing.T) {
			_, _, err := job.ScanArray("input", []byte(tt.src), job.Int8, job.DefaultLimits())
			wantError(t, err, tt.code, tt.field, tt.detail)
		})
	}
}

func TestScanArrayLimits(t *testing.T) {
	lim := job.DefaultLimits()
	lim.MaxElements, lim.MaxBytes = 3, 20
	_, _, err := job.ScanArray("input", []byte("[1,2,3,4]"), job.Int8, lim)
	wantError(t, err, job.CodeInvalid, "input", "expected at most 3 elements")
	_, _, err = job.ScanArray("input", []byte("[[],[],[],[]]"), job.Int8, lim)
	wantError(t, err, job.CodeInvalid, "input.shape", "expected at most 3 elements in a tensor, the shape has more")
	_, _, err = job.ScanArray("input", []byte("[                   ]"), job.Int8, lim)
	wantError(t, err, job.CodeTooLarge, "input", "expected at most 20 bytes, got 21")
	_, _, err = job.ScanArray("input", []byte("[]"), 0, lim)
	wantError(t, err, job.CodeInvalid, "input", "the datatype is not one of the Open Inference Protocol")
}

// Texts at the edges of rounding, where the quick way must give up or be right.
func TestScanArrayRoundsCorrectly(t *testing.T) {
	texts := []string{
		"0", "-0", "0.0", "0e999", "-0e-999", "1", "-1.5", "0.1", "0.2", "123456789", "16777217", "16777219", "33554433",
		"1.00000017881393421514957253748434595763683319091796875001", // a hair over half-way between two float32
		"1.00000017881393432617187499", "1.00000017881393432617187500", "1.00000017881393432617187501",
		"1.000000178813934", "1.0000001788139343", "8388609.5", "8388610.5", "8388608.49999999999999999999",
		"3.4028234663852886e38", "3.4028235677973366e38", "3.4028235677973362e38", "3.40282356779733e38",
		"1.17549435e-38", "1.1754942e-38", "1.4e-45", "7e-46", "7.1e-46", "1e-46", "1e-400",
		"9007199254740993", "9007199254740992", "9007199254740991e22", "9007199254740991e-22", "9007199254740993e1",
		"1e22", "1e23", "1.7976931348623157e308", "1.7976931348623158e308", "4.9e-324", "2.4703282292062327e-324", "2.5e-324",
		"0.000000000000000000000000000000000000000000001", "100000000000000000000000000000000000000",
		"1234567890123456789012345678901234567890e-20", "0.12345678901234567890123456789", "1E5", "1e+5", "1e05",
	}
	for _, s := range texts {
		f32, err32 := strconv.ParseFloat(s, 32)
		checkScan(t, s, job.FP32, le(t, float32(f32)), err32 == nil)
		f64, err64 := strconv.ParseFloat(s, 64)
		checkScan(t, s, job.FP64, le(t, f64), err64 == nil)
	}
}

// checkScan fails unless the scalar is read as want, or refused.
func checkScan(t *testing.T, src string, dt job.Datatype, want []byte, ok bool) {
	t.Helper()
	_, data, err := job.ScanArray("input", []byte(src), dt, job.DefaultLimits())
	if !ok {
		if err == nil {
			t.Errorf("%s as %s: got %x, want an error", src, dt, data)
		}
		return
	}
	if err != nil || string(data) != string(want) {
		t.Errorf("%s as %s: got %x, %v; want %x", src, dt, data, err, want)
	}
}

// Every finite value of the 16-bit floats is written as a number that reads back as the same bits; and what lies
// between two of them goes to the nearer, or to the even one half-way.
func TestSixteenBitFloats(t *testing.T) {
	for _, dt := range []job.Datatype{job.FP16, job.BF16} {
		values := finite16(dt)
		for bits, v := range values {
			if math.IsNaN(v) {
				continue
			}
			tensor := job.Tensor{Datatype: dt, Data: []byte{byte(bits), byte(bits >> 8)}}
			text := string(job.AppendNestedJSON(nil, &tensor))
			checkScan(t, text, dt, tensor.Data, true)
			next := bits + 1
			edge := bits%64 < 2 || bits%64 > 61 // every change of exponent is among these
			if !edge || next >= len(values) || math.IsNaN(values[next]) {
				continue
			}
			middle := (v + values[next]) / 2
			even := bits + bits&1
			for _, probe := range []struct {
				f    float64
				want int
			}{{middle, even}, {math.Nextafter(middle, v), bits}, {math.Nextafter(middle, values[next]), next}} {
				checkScan(t, strconv.FormatFloat(probe.f, 'g', -1, 64), dt, []byte{byte(probe.want), byte(probe.want >> 8)}, true)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// finite16 returns the value of every bit pattern of a 16-bit float, NaN for those that are not finite.
func finite16(dt job.Datatype) []float64 {
	values := make([]float64, 1<<16)
	for bits := range values {
		if dt == job.BF16 {
			values[bits] = float64(math.Float32frombits(uint32(bits) << 16))
		} else {
			exp, frac := bits>>10&0x1f, float64(bits&0x3ff)
			switch exp {
			case 0:
				values[bits] = frac * 0x1p-24
			case 0x1f:
				values[bits] = math.Inf(1)
			default:
				values[bits] = (1 + frac/1024) * math.Pow(2, float64(exp-15))
			}
			if bits>>15 == 1 {
				values[bits] = math.Copysign(values[bits], -1)
			}
		}
		if math.IsInf(values[bits], 0) {
			values[bits] = math.NaN()
		}
	}
	return values
}

func TestSixteenBitFloatsOverflow(t *testing.T) {
	checkScan(t, "65519.99", job.FP16, le(t, uint16(0x7bff)), true)
	checkScan(t, "65520", job.FP16, nil, false)
	checkScan(t, "-65520", job.FP16, nil, false)
	checkScan(t, "1e999", job.FP16, nil, false)
	checkScan(t, "3.39617752923046e38", job.BF16, nil, false) // half-way to what would follow the largest
	checkScan(t, "3.3961775e38", job.BF16, le(t, uint16(0x7f7f)), true)
	checkScan(t, "-1e39", job.BF16, nil, false)
}

func BenchmarkScanArray(b *testing.B) {
	for _, digits := range []int{2, 8, 17} {
		var src []byte
		for i := range 64 {
			src = strconv.AppendFloat(append(src, ','), math.Sin(float64(i+1)), 'f', digits, 64)
		}
		src[0] = '['
		src = append(src, ']')
		b.Run(strconv.Itoa(digits)+"digits", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := job.ScanArray("input", src, job.FP32, job.DefaultLimits()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeRequestJSON(b *testing.B) {
	var data []byte
	for i := range 64 {
		data = strconv.AppendFloat(append(data, ','), float64(i%17), 'f', 1, 64)
	}
	body := []byte(`{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":[` + string(data[1:]) + `]}]}`)
	b.ReportAllocs()
	for b.Loop() {
		var j job.Job
		if err := job.DecodeRequestJSON(body, &j, job.DefaultLimits(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSON is what BenchmarkScanArray has to beat.
func BenchmarkEncodingJSON(b *testing.B) {
	var src []byte
	for i := range 64 {
		src = strconv.AppendFloat(append(src, ','), math.Sin(float64(i+1)), 'f', 8, 64)
	}
	src[0] = '['
	src = append(src, ']')
	for b.Loop() {
		var v []float32
		if err := json.Unmarshal(src, &v); err != nil {
			b.Fatal(err)
		}
	}
}
