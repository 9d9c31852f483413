package table_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// TestParquetBadRows has the reason of each row that is not asked.
func TestParquetBadRows(t *testing.T) {
	arrow := openParquet(t, onFile(t, "testdata/arrow1.parquet"), 0)
	block := read(t, arrow)
	for _, tt := range []struct {
		column string
		dt     job.Datatype
		shape  int64
		list   bool
		row    int
		want   string // of the error; "" for a good row
	}{
		{"float", job.FP32, 1, false, 0, "expected a number that fits FP32, the cell is empty"},
		{"float", job.FP32, 1, false, 1, ""},
		{"double", job.Int64, 1, false, 1, `expected an integer that fits INT64, got "0.14285714285714285"`},
		{"nan", job.FP32, 1, false, 0, ""},
		{"nan", job.FP16, 1, false, 0, ""},
		{"nan", job.Int64, 1, false, 0, `expected an integer that fits INT64, got "NaN"`},
		{"int64", job.Uint8, 1, false, 0, `expected an integer that fits UINT8, got "-9223372036854775808"`},
		{"uint64", job.Int64, 1, false, 1, `expected an integer that fits INT64, got "18446744073709551615"`},
		{"uint64", job.Uint64, 1, false, 1, ""},
		{"uint64", job.FP32, 1, false, 1, ""},
		{"int64", job.Bytes, 1, false, 1, `expected text, got "9223372036854775807"`},
		{"bool", job.Bytes, 1, false, 0, `expected text, got "true"`},
		{"text", job.FP32, 1, false, 2, "expected a number that fits FP32, got \"é\\\"2é\\\"2\""},
		{"none", job.Bytes, 1, false, 2, "expected text, the cell is empty"},
		{"decimal", job.FP64, 1, false, 2, ""},
		{"decimal", job.Int8, 1, false, 0, ""},
		{"decimal", job.Int8, 1, false, 1, `expected an integer that fits INT8, got "-4.75"`},
		{"half", job.FP16, 1, false, 1, ""},
		{"half", job.FP32, 1, false, 1, ""},
		{"list", job.Int64, 1, true, 0, "expected an integer that fits INT64, the cell is empty"},
		{"list", job.Int64, 1, true, 1, "expected 1 elements, got 0"},
		{"list", job.Int64, 1, true, 2, ""},
		{"list", job.Int64, 1, true, 3, "expected an integer that fits INT64 in each place, element 0 is empty"},
		{"list", job.Int64, 3, true, 4, "expected an integer that fits INT64 in each place, element 1 is empty"},
		{"list", job.Int64, 3, true, 5, "expected 3 elements, got 5"},
		{"floats", job.FP32, 1, false, 5, "expected a single value, got a list of 3"},
		{"nested", job.FP64, 3, true, 0, ""},
		{"nested", job.FP64, 2, true, 4, ""},
		{"nested", job.FP64, 2, true, 5, "expected a number that fits FP64 in each place, element 1 is empty"},
		{"struct", job.Int32, 1, false, 4, "expected an integer that fits INT32, the cell is empty"},
		{"struct", job.Int32, 1, false, 5, ""},
		{"pair", job.Int32, 1, false, 5, "expected numbers or a list of them, the column is of a nested type"},
	} {
		c := slices.IndexFunc(arrow.Columns(), func(c table.Column) bool { return c.Name == tt.column })
		d := block.Decode(&table.Plan{Batchable: true, ID: -1, Limits: job.DefaultLimits(), Inputs: []table.PlanInput{
			{Name: "x", Datatype: tt.dt, Shape: []int64{tt.shape}, Columns: []int{c}, List: tt.list},
		}})
		got := ""
		for _, b := range d.Bad {
			if b.Row == tt.row {
				got = b.Err.Detail
				if b.Err.Field != tt.column {
					t.Errorf("%s: the field is %q", tt.column, b.Err.Field)
				}
			}
		}
		if got != tt.want {
			t.Errorf("%s as %s: row %d is bad for %q, want %q", tt.column, tt.dt, tt.row, got, tt.want)
		}
	}
}

// TestParquetQuickWay holds columns of numbers, which are decoded all at once, to the same columns one by one.
func TestParquetQuickWay(t *testing.T) {
	inf := math.Inf(1)
	type row struct {
		A float64 `parquet:"a"`
		B int32   `parquet:"b"`
		C int64   `parquet:"c,optional"`
		D float32 `parquet:"d"`
	}
	rows := []row{{1.5, 2, 3, 4}, {math.NaN(), -5, -6, float32(inf)}, {-inf, math.MinInt32, math.MaxInt64, -0.}}
	src := openParquet(t, parquetOf(t, rows), 0)
	b := read(t, src)
	for _, dt := range []job.Datatype{job.FP32, job.FP64} {
		p := plan(t, src, takes(x(dt, 4)), table.Want{})
		d := b.Decode(p)
		var want []byte
		for _, r := range rows {
			for _, f := range []float64{r.A, float64(r.B), float64(r.C), float64(r.D)} {
				if dt == job.FP32 {
					want = append(want, floats(f)...)
				} else {
					want = binary.LittleEndian.AppendUint64(want, math.Float64bits(f))
				}
			}
		}
		if len(d.Bad) > 0 || len(d.Groups) != 1 || !slices.Equal(d.Groups[0].Rows, []int{0, 1, 2}) || !bytes.Equal(d.Groups[0].Inputs[0].Data, want) {
			t.Errorf("%s: got %+v", dt, d)
		}
	}
	rows = append(rows, row{A: 1e39})
	src = openParquet(t, parquetOf(t, rows), 0)
	d := read(t, src).Decode(plan(t, src, takes(x(job.FP32, 4)), table.Want{}))
	if len(d.Bad) != 1 || d.Bad[0].Row != 3 || d.Bad[0].Err.Detail != `expected a number that fits FP32, got "1e+39"` || len(d.Groups[0].Rows) != 3 {
		t.Errorf("got %+v", d)
	}
}
