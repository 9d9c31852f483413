package table_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// memory is an Input in memory.
type memory struct{ text []byte }

func (m memory) Size() int64 { return int64(len(m.text)) }
func (m memory) From(offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.text[min(offset, int64(len(m.text))):])), nil
}
func (m memory) ReaderAt() io.ReaderAt { return bytes.NewReader(m.text) }

// digits is a model that takes 64 numbers in a row.
func digits() *model.Info {
	return &model.Info{Name: "digits", Version: "1", Signature: model.Signature{
		Inputs:    []model.TensorSpec{{Name: "pixels_in", Datatype: job.FP32, Shape: []int64{-1, 64}}},
		Outputs:   []model.TensorSpec{{Name: "probabilities", Datatype: job.FP32, Shape: []int64{-1, 10}}},
		Batchable: true,
	}}
}

const benchRows = 512

func digitLine(b *bytes.Buffer, id int) {
	fmt.Fprintf(b, `{"id":%d,"pixels":[`, id)
	for k := range 64 {
		if k > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatFloat(float64(rand.IntN(17)), 'f', 1, 64))
	}
	fmt.Fprintf(b, "],\"label\":%d}\n", rand.IntN(10))
}

func digitCSV(rows int, quoted bool) []byte {
	var b bytes.Buffer
	b.WriteString("id")
	for k := range 64 {
		fmt.Fprintf(&b, ",pixel_%d", k)
	}
	b.WriteByte('\n')
	for id := range rows {
		b.WriteString(strconv.Itoa(id))
		for range 64 {
			if quoted {
				fmt.Fprintf(&b, ",\"%d.0\"", rand.IntN(17))
			} else {
				fmt.Fprintf(&b, ",%d.0", rand.IntN(17))
			}
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func benchDecode(b *testing.B, f table.Format, text []byte) {
	b.Helper()
	src, err := table.Open(memory{text}, f, table.Plain, table.Options{})
	if err != nil {
		b.Fatal(err)
	}
	plan, err := table.NewPlan(src.Columns(), digits(), table.Want{ID: "id"})
	if err != nil {
		b.Fatal(err)
	}
	block, err := src.Read(benchRows)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if d := block.Decode(plan); len(d.Bad) > 0 || len(d.Groups) != 1 {
			b.Fatalf("%d bad rows, the first: %v", len(d.Bad), d.Bad[0].Err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRows), "ns/row")
}

func BenchmarkDecodeJSONL(b *testing.B) {
	var text bytes.Buffer
	for id := range benchRows {
		digitLine(&text, id)
	}
	benchDecode(b, table.JSONL, text.Bytes())
}

func BenchmarkDecodeCSV(b *testing.B)       { benchDecode(b, table.CSV, digitCSV(benchRows, false)) }
func BenchmarkDecodeCSVQuoted(b *testing.B) { benchDecode(b, table.CSV, digitCSV(benchRows, true)) }

// benchEncode encodes 10 numbers a row.
func benchEncode(b *testing.B, f table.Format, join bool) {
	b.Helper()
	var text bytes.Buffer
	for id := range benchRows {
		digitLine(&text, id)
	}
	in := text.Bytes()
	if f == table.CSV {
		in = digitCSV(benchRows, false)
	}
	src, err := table.Open(memory{in}, f, table.Plain, table.Options{})
	if err != nil {
		b.Fatal(err)
	}
	block, err := src.Read(benchRows)
	if err != nil {
		b.Fatal(err)
	}
	output := job.Tensor{Name: "probabilities", Datatype: job.FP32, Shape: []int64{benchRows, 10}}
	for range benchRows * 10 {
		output.Data = append(output.Data, floats(rand.ExpFloat64()/10)...)
	}
	answers := make([]table.Answer, benchRows)
	for row := range answers {
		answers[row] = table.Answer{Row: row, Outputs: []job.Tensor{output}, At: row}
	}
	sink, err := table.NewSink(&buffer{}, table.Spec{
		Format: f, Columns: src.Columns(), Join: join,
		Predicted: []table.Predicted{{Column: "prediction", Datatype: job.FP32, Shape: []int64{10}}},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sink.Encode(block, answers); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRows), "ns/row")
}

func BenchmarkEncodeJSONL(b *testing.B)     { benchEncode(b, table.JSONL, false) }
func BenchmarkEncodeJSONLJoin(b *testing.B) { benchEncode(b, table.JSONL, true) }
func BenchmarkEncodeCSV(b *testing.B)       { benchEncode(b, table.CSV, false) }
func BenchmarkEncodeCSVJoin(b *testing.B)   { benchEncode(b, table.CSV, true) }

// benchRead cuts a file into rows.
func benchRead(b *testing.B, f table.Format, text []byte) {
	b.Helper()
	b.SetBytes(int64(len(text)))
	rows := 0
	for b.Loop() {
		src, err := table.Open(memory{text}, f, table.Plain, table.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			block, err := src.Read(256)
			if err == io.EOF { //nolint:errorlint // Read returns io.EOF itself
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			rows += block.Rows()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

func BenchmarkReadJSONL(b *testing.B) {
	var text bytes.Buffer
	for id := range 20_000 {
		digitLine(&text, id)
	}
	benchRead(b, table.JSONL, text.Bytes())
}

func BenchmarkReadCSV(b *testing.B) { benchRead(b, table.CSV, digitCSV(20_000, false)) }
