package table_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

const parquetBenchRows = 20_000

// benchParquet reads and decodes a file of rows that the model digits takes.
func benchParquet(b *testing.B, leaf parquet.Node, list bool) {
	b.Helper()
	group, width := parquet.Group{"id": parquet.Int(64)}, 64
	if list {
		group["pixels"] = parquet.Optional(parquet.List(parquet.Optional(leaf)))
	} else {
		for k := range width {
			group[string([]byte{'p', byte('0' + k/10), byte('0' + k%10)})] = parquet.Optional(leaf)
		}
	}
	var file buffer
	w := parquet.NewGenericWriter[any](&file, parquet.NewSchema("rows", group), parquet.Compression(&parquet.Snappy))
	def := 1
	if list {
		def = 3
	}
	for id := range parquetBenchRows {
		row := parquet.Row{parquet.Int64Value(int64(id)).Level(0, 0, 0)}
		for k := range width {
			v := parquet.FloatValue(float32(rand.IntN(17)) + rand.Float32()/8)
			if leaf.Type().Kind() == parquet.Double {
				v = parquet.DoubleValue(float64(v.Float()))
			}
			rep, column := 0, k+1
			if list {
				column = 1
				if k > 0 {
					rep = 1
				}
			}
			row = append(row, v.Level(rep, def, column))
		}
		if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		src, err := table.Open(memory{file.Bytes()}, table.Parquet, table.Plain, table.Options{})
		if err != nil {
			b.Fatal(err)
		}
		p, err := table.NewPlan(src.Columns(), digits(), table.Want{ID: "id"})
		if err != nil {
			b.Fatal(err)
		}
		for {
			block, err := src.Read(benchRows)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if d := block.Decode(p); len(d.Bad) > 0 || len(d.Groups) != 1 {
				b.Fatal(d.Bad)
			}
			rows += block.Rows()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

func BenchmarkParquetLists(b *testing.B) { benchParquet(b, parquet.Leaf(parquet.FloatType), true) }

func BenchmarkParquetColumns(b *testing.B) { benchParquet(b, parquet.Leaf(parquet.FloatType), false) }

func BenchmarkParquetDoubleLists(b *testing.B) {
	benchParquet(b, parquet.Leaf(parquet.DoubleType), true)
}

func BenchmarkParquetDoubles(b *testing.B) { benchParquet(b, parquet.Leaf(parquet.DoubleType), false) }

// BenchmarkParquetWrite encodes and appends 10 numbers a row.
func BenchmarkParquetWrite(b *testing.B) {
	src, err := table.Open(memory{digitCSV(benchRows, false)}, table.CSV, table.Plain, table.Options{})
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
	var file buffer
	sink, err := table.NewSink(&file, table.Spec{
		Format: table.Parquet, Columns: src.Columns(), ID: -1,
		Predicted: []table.Predicted{{Column: "prediction", Datatype: job.FP32, Shape: []int64{10}}},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		piece, err := sink.Encode(block, answers)
		if err != nil {
			b.Fatal(err)
		}
		if err := sink.Append(piece); err != nil {
			b.Fatal(err)
		}
		file.Reset()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchRows), "ns/row")
}
