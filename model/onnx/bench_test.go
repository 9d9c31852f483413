package onnx_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/sheafml/sheaf/model"
)

func BenchmarkRun(b *testing.B) {
	rt := open(b)
	for _, rows := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			_, in := load(b, rt, "mlp")
			row := make([]byte, 64*4)
			input := model.BatchInput{Shape: []int64{int64(rows), 64}}
			for range rows {
				input.Parts = append(input.Parts, row)
			}
			batch := &model.Batch{Rows: rows, Inputs: []model.BatchInput{input}}
			ctx, cancel := context.WithCancel(b.Context()) // as a worker has it
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := in.Run(ctx, batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
