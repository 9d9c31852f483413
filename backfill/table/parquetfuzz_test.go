package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// FuzzParquet writes over bytes of small files: what comes of it is rows or an error, never a panic, nor much memory.
func FuzzParquet(f *testing.F) {
	type row struct {
		A float32   `parquet:"a"`
		L []float64 `parquet:"l,list"`
		T *string   `parquet:"t,optional,dict"`
		B *bool     `parquet:"b,optional"`
		D []int32   `parquet:"d,dict"`
	}
	var files [][]byte
	for _, version := range []int{1, 2} {
		var file bytes.Buffer
		w := parquet.NewGenericWriter[row](&file, parquet.DataPageVersion(version), parquet.Compression(&parquet.Snappy), parquet.PageBufferSize(100))
		yes, text := true, "text"
		for i := range 20 {
			if _, err := w.Write([]row{{A: float32(i), L: []float64{1, 2}, T: &text, B: &yes, D: []int32{1, 2, 3}}, {L: nil}}); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		files = append(files, file.Bytes())
	}
	files = append(files, readFile(f, "testdata/arrow1.parquet"), readFile(f, "testdata/arrow2.parquet"))
	for i := range files {
		f.Add(byte(i), []byte{0, 0, 0})
		f.Add(byte(i), []byte{1, 4, 255, 1, 40, 127, 0, 30, 8})
	}
	f.Add(byte(0), []byte(",S\x0e")) // another compression
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		if len(changes) > 60 {
			return
		}
		file := bytes.Clone(files[int(which)%len(files)])
		for ; len(changes) >= 3; changes = changes[3:] {
			file[int(binary.LittleEndian.Uint16(changes))%len(file)] = changes[2]
		}
		checkDamaged(t, file)
	})
}

// checkDamaged reads all of a file.
func checkDamaged(t testing.TB, file []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := readDamaged(t, file)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<30 {
		t.Errorf("%d MiB were allocated for a file of %d bytes; it ended with %v", used>>20, len(file), err)
	}
}

func readDamaged(t testing.TB, file []byte) error {
	t.Helper()
	src, err := table.Open(memory{file}, table.Parquet, table.Plain, table.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	var columns []int
	for c := range src.Columns() {
		columns = append(columns, c)
	}
	info := &model.Info{Signature: model.Signature{Batchable: true, Inputs: []model.TensorSpec{x(job.FP32, -1, 2)}}}
	if _, err := table.NewPlan(src.Columns(), info, table.Want{}); err != nil {
		_ = err // that no column fits is no fault
	}
	for range 50 {
		b, err := src.Read(30)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for _, c := range columns {
			for _, list := range []bool{true, false} {
				in := table.PlanInput{Name: "x", Datatype: job.FP32, Shape: []int64{2}, Columns: []int{c}, List: list}
				d := b.Decode(&table.Plan{Batchable: true, ID: -1, Inputs: []table.PlanInput{in}, Limits: job.DefaultLimits()})
				rows := len(d.Bad)
				for _, g := range d.Groups {
					rows += len(g.Rows)
				}
				if rows != b.Rows() {
					t.Fatalf("%d rows of %d are good or bad", rows, b.Rows())
				}
			}
			for row := range b.Rows() {
				b.AppendCell(nil, row, c)
			}
		}
	}
	return nil
}
