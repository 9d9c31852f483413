package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/sheafml/sheaf/job"
)

const (
	modelName    = "digits"
	modelInput   = "x"
	modelOutput  = "probabilities"
	rowWidth     = 64
	classes      = 10
	rowTolerance = 1e-5 // what the model's results may differ by across batch sizes
)

// row is one held-out digit.
type row struct {
	data     []byte       // 64 float32, little-endian
	inputs   []job.Tensor // the same as a job's inputs
	expected [classes]float32
}

// loadRows reads the held-out rows, one JSON object a line.
func loadRows(file string) ([]row, error) {
	f, err := os.Open(file) //nolint:gosec // a file of the repository
	if err != nil {
		return nil, fmt.Errorf("read the held-out rows: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	rows, err := readRows(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return rows, nil
}

func readRows(r io.Reader) ([]row, error) {
	var rows []row
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var doc struct {
			Input         []float32 `json:"input"`
			Probabilities []float32 `json:"probabilities"`
		}
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(rows)+1, err)
		}
		if len(doc.Input) != rowWidth || len(doc.Probabilities) != classes {
			return nil, fmt.Errorf("line %d: expected %d pixels and %d probabilities, got %d and %d",
				len(rows)+1, rowWidth, classes, len(doc.Input), len(doc.Probabilities))
		}
		var next row
		for _, v := range doc.Input {
			next.data = binary.LittleEndian.AppendUint32(next.data, math.Float32bits(v))
		}
		next.inputs = []job.Tensor{{Name: modelInput, Datatype: job.FP32, Shape: []int64{1, rowWidth}, Data: next.data}}
		copy(next.expected[:], doc.Probabilities)
		rows = append(rows, next)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("there are no rows in it")
	}
	return rows, nil
}

// check compares the raw probabilities of one row with the expected ones.
func (r *row) check(data []byte) error {
	if len(data) != classes*4 {
		return fmt.Errorf("expected %d probabilities, got %d bytes", classes, len(data))
	}
	for i, want := range r.expected {
		got := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		// The comparison is so that NaN is wrong too.
		if diff := math.Abs(float64(got) - float64(want)); !(diff <= rowTolerance) {
			return fmt.Errorf("class %d: expected %g, got %g", i, want, got)
		}
	}
	return nil
}
