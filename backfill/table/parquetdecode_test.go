package table_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// mixed has a column of every type, flat, optional and as lists.
type mixed struct {
	Float   float32   `parquet:"float"`
	Double  *float64  `parquet:"double,optional"`
	Int     int32     `parquet:"int"`
	Long    *int64    `parquet:"long,optional"`
	Word    uint32    `parquet:"word"`
	Size    *uint64   `parquet:"size,optional"`
	Flag    *bool     `parquet:"flag,optional"`
	Text    *string   `parquet:"text,optional,dict"`
	Doubles []float64 `parquet:"doubles,list"`
	Longs   []int64   `parquet:"longs,list,dict"`
	Sizes   []uint64  `parquet:"sizes"`
	Flags   []bool    `parquet:"flags,list"`
	Texts   []string  `parquet:"texts"`
}

func anys[T any](list []T) []any {
	var out []any
	for _, v := range list {
		out = append(out, v)
	}
	return out
}

// cell is what a column has in a row, in the order of mixed; a missing value is a nil.
func (m *mixed) cell(column int) []any {
	deref := func(missing bool, v func() any) []any {
		if missing {
			return []any{nil}
		}
		return []any{v()}
	}
	switch column {
	case 0:
		return []any{m.Float}
	case 1:
		return deref(m.Double == nil, func() any { return *m.Double })
	case 2:
		return []any{m.Int}
	case 3:
		return deref(m.Long == nil, func() any { return *m.Long })
	case 4:
		return []any{m.Word}
	case 5:
		return deref(m.Size == nil, func() any { return *m.Size })
	case 6:
		return deref(m.Flag == nil, func() any { return *m.Flag })
	case 7:
		return deref(m.Text == nil, func() any { return *m.Text })
	case 8:
		return anys(m.Doubles)
	case 9:
		return anys(m.Longs)
	case 10:
		return anys(m.Sizes)
	case 11:
		return anys(m.Flags)
	}
	return anys(m.Texts)
}

// element is a plain reading of a value as an element; nil if it is none. Texts go by what CSV does, which has its own tests.
func element(v any, dt job.Datatype) []byte {
	var number *big.Float
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		switch {
		case dt == job.Bytes && !strings.Contains(v, "\x00"):
			return job.AppendBytesElement(nil, []byte(v))
		case dt != job.Bytes && v == "7":
			return element(int32(7), dt)
		}
		return nil
	case bool:
		switch {
		case dt == job.Bytes:
			return nil
		case v:
			return element(int32(1), dt)
		}
		return element(int32(0), dt)
	case int32:
		number = new(big.Float).SetInt64(int64(v))
	case int64:
		number = new(big.Float).SetInt64(v)
	case uint32:
		number = new(big.Float).SetUint64(uint64(v))
	case uint64:
		number = new(big.Float).SetUint64(v)
	case float32:
		if dt == job.Bool {
			return nil
		}
		number = big.NewFloat(float64(v))
	case float64:
		if dt == job.Bool {
			return nil
		}
		number = big.NewFloat(v)
	}
	whole, accuracy := number.Int(nil)
	within := func(low, high int64) bool {
		return accuracy == big.Exact && whole.Cmp(big.NewInt(low)) >= 0 && whole.Cmp(big.NewInt(high)) <= 0
	}
	switch dt {
	case job.FP32:
		f, _ := number.Float32()
		if math.IsInf(float64(f), 0) {
			return nil
		}
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))
	case job.FP64:
		f, _ := number.Float64()
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))
	case job.Bool:
		if within(0, 1) {
			return []byte{byte(whole.Int64())}
		}
	case job.Int8:
		if within(-128, 127) {
			return []byte{byte(whole.Int64())}
		}
	case job.Uint8:
		if within(0, 255) {
			return []byte{byte(whole.Int64())}
		}
	case job.Int64:
		if within(math.MinInt64, math.MaxInt64) {
			return binary.LittleEndian.AppendUint64(nil, uint64(whole.Int64()))
		}
	case job.Uint64:
		if accuracy == big.Exact && whole.IsUint64() {
			return binary.LittleEndian.AppendUint64(nil, whole.Uint64())
		}
	default:
	}
	return nil
}

// TestParquetDecode holds Decode to a plain reading of random rows.
func TestParquetDecode(t *testing.T) {
	integers := rapid.OneOf(rapid.SampledFrom([]int64{0, 1, -1, 7, 127, 128, 255, 300, -128, -129, math.MaxInt64, math.MinInt64, 1<<24 + 1, 1<<53 + 1}), rapid.Int64())
	numbers := rapid.OneOf(rapid.SampledFrom([]float64{0, 1, 1.5, 300, -1, 1e39, -1e39, math.MaxFloat32, 1 << 53, 1 << 63, 1e300, .1, 5e-324}), rapid.Float64())
	texts := rapid.SampledFrom([]string{"", "7", "7", "é", "é", "a\x00b", "long text that is not a number"})
	dts := []job.Datatype{job.FP32, job.FP64, job.Bool, job.Int8, job.Uint8, job.Int64, job.Uint64, job.Bytes}
	seen := map[string]bool{}
	rapid.Check(t, func(rt *rapid.T) {
		dirty := rapid.Float64Range(0, .3).Draw(rt, "dirt")
		clean := func() bool { return rapid.Float64Range(0, 1).Draw(rt, "clean") >= dirty }
		integer := func() int64 {
			if clean() {
				return int64(rapid.IntRange(0, 1).Draw(rt, "bit"))
			}
			return integers.Draw(rt, "integer")
		}
		number := func() float64 {
			if clean() {
				return float64(rapid.IntRange(0, 100).Draw(rt, "percent"))
			}
			return numbers.Draw(rt, "number")
		}
		n := rapid.IntRange(1, 3).Draw(rt, "elements")
		rows := make([]mixed, rapid.IntRange(1, 30).Draw(rt, "rows"))
		for i := range rows {
			m := &rows[i]
			d, l, b, s := number(), integer(), rapid.Bool().Draw(rt, "flag"), texts.Draw(rt, "text")
			u := uint64(l)
			m.Float, m.Int, m.Word = float32(min(max(d, -1e38), 1e38)), int32(l), uint32(l)
			if clean() {
				m.Double, m.Long, m.Size, m.Flag, m.Text = &d, &l, &u, &b, &s
			}
			length := n
			if !clean() {
				length = rapid.IntRange(0, 4).Draw(rt, "length")
			}
			for range length {
				m.Doubles, m.Longs, m.Sizes = append(m.Doubles, number()), append(m.Longs, integer()), append(m.Sizes, uint64(integer()))
				m.Flags, m.Texts = append(m.Flags, rapid.Bool().Draw(rt, "flag")), append(m.Texts, texts.Draw(rt, "text"))
			}
		}
		in := parquetOf(t, rows, parquet.PageBufferSize(rapid.IntRange(16, 2000).Draw(rt, "page")), parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "version")))
		src := openParquet(t, in, 0)
		p := &table.Plan{Batchable: true, ID: -1, Limits: job.DefaultLimits()}
		for k := range rapid.IntRange(1, 2).Draw(rt, "inputs") {
			input := table.PlanInput{Name: fmt.Sprint("x", k), Datatype: rapid.SampledFrom(dts).Draw(rt, "datatype"), Shape: []int64{int64(n)}}
			column := rapid.IntRange(0, 12)
			if input.Datatype == job.Bytes {
				column = rapid.SampledFrom([]int{7, 12, 12, 0})
			}
			if input.List = rapid.Bool().Draw(rt, "list"); input.List {
				input.Columns = []int{column.Draw(rt, "column")}
				if rapid.Bool().Draw(rt, "varies") {
					input.Shape[0] = -1
				}
			} else {
				for range n {
					input.Columns = append(input.Columns, column.Draw(rt, "column"))
				}
			}
			p.Inputs = append(p.Inputs, input)
		}
		for at := 0; at < len(rows); {
			b, err := src.Read(rapid.IntRange(1, 20).Draw(rt, "block"))
			if err != nil {
				rt.Fatal(err)
			}
			checkDecoded(rt, b.Decode(p), p, rows[at:at+b.Rows()], seen)
			at += b.Rows()
		}
	})
	for _, dt := range dts {
		if !seen[dt.String()] {
			t.Errorf("no row was decoded as %s", dt)
		}
	}
}

func checkDecoded(t *rapid.T, d table.Decoded, p *table.Plan, rows []mixed, seen map[string]bool) {
	got := make([][][]byte, len(rows))
	for _, g := range d.Groups {
		for i := range p.Inputs {
			in := &g.Inputs[i]
			if in.Name != p.Inputs[i].Name || in.Datatype != p.Inputs[i].Datatype || len(in.Shape) != 2 || in.Shape[0] != int64(len(g.Rows)) || in.Check("x", job.DefaultLimits()) != nil {
				t.Fatalf("got the tensor %s %s of %v", in.Name, in.Datatype, in.Shape)
			}
			data := in.Data
			for _, row := range g.Rows {
				one := 0
				for range in.Shape[1] {
					if in.Datatype == job.Bytes {
						one += 4 + int(binary.LittleEndian.Uint32(data[one:]))
					} else {
						one += in.Datatype.Size()
					}
				}
				got[row] = append(got[row], data[:one:one])
				data = data[one:]
			}
			if len(data) > 0 {
				t.Fatalf("%d bytes are too many", len(data))
			}
		}
	}
	var bad []int
	for _, b := range d.Bad {
		if got[b.Row] != nil || b.Err == nil || b.Err.Field == "" || b.Err.Detail == "" {
			t.Fatalf("row %d is bad for %+v", b.Row, b.Err)
		}
		bad = append(bad, b.Row)
	}
	for row := range rows {
		want := plain(p, &rows[row])
		if want == nil {
			if !slices.Contains(bad, row) {
				t.Fatalf("row %+v is read as %v by %+v", rows[row], got[row], p)
			}
			continue
		}
		for i := range want {
			seen[p.Inputs[i].Datatype.String()] = true
			if got[row] == nil || !bytes.Equal(got[row][i], want[i]) {
				t.Fatalf("row %+v is read as %v, want %v, by %+v; bad: %+v", rows[row], got[row], want, p, d.Bad)
			}
		}
	}
}

// plain reads a row, nil if it is bad.
func plain(p *table.Plan, row *mixed) [][]byte {
	var inputs [][]byte
	for i := range p.Inputs {
		in := &p.Inputs[i]
		data := []byte{}
		for _, c := range in.Columns {
			cell := row.cell(c)
			if !in.List && len(cell) != 1 || in.List && in.Shape[0] >= 0 && len(cell) != int(in.Shape[0]) {
				return nil
			}
			for _, v := range cell {
				e := element(v, in.Datatype)
				if e == nil {
					return nil
				}
				data = append(data, e...)
			}
		}
		inputs = append(inputs, data)
	}
	return inputs
}
