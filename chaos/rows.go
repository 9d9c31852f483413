package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/sheafml/sheaf/job"
)

const (
	modelName = "digits"
	rowWidth  = 64
	classes   = 10
	tolerance = 1e-5 // what results may differ by across batch sizes
)

// row is one held-out digit and what the model gives for it.
type row struct {
	body     []byte       // of an HTTP submit
	inputs   []job.Tensor // of a job
	expected [classes]float32
}

// loadRows reads the held-out rows, one JSON object a line.
func loadRows(file string) ([]row, error) {
	b, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err != nil {
		return nil, fmt.Errorf("read the held-out rows: %w", err)
	}
	var rows []row
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		var doc struct {
			Input         []float32 `json:"input"`
			Probabilities []float32 `json:"probabilities"`
		}
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", file, len(rows)+1, err)
		}
		if len(doc.Input) != rowWidth || len(doc.Probabilities) != classes {
			return nil, fmt.Errorf("%s: line %d: expected %d pixels and %d probabilities, got %d and %d",
				file, len(rows)+1, rowWidth, classes, len(doc.Input), len(doc.Probabilities))
		}
		next := row{}
		if next.body, err = json.Marshal(map[string]any{"input": doc.Input}); err != nil {
			return nil, err
		}
		var data []byte
		for _, v := range doc.Input {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		next.inputs = []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, rowWidth}, Data: data}}
		copy(next.expected[:], doc.Probabilities)
		rows = append(rows, next)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(rows) == 0 {
		return nil, errors.New(file + " is empty")
	}
	return rows, nil
}

// fault says what is wrong with the probabilities of this row, "" if nothing is.
func (r *row) fault(got []float32) string {
	if len(got) != classes {
		return fmt.Sprintf("expected %d probabilities, got %d", classes, len(got))
	}
	for i, want := range r.expected {
		// The comparison is so that NaN is wrong too.
		if diff := math.Abs(float64(got[i]) - float64(want)); !(diff <= tolerance) {
			return fmt.Sprintf("class %d: expected %g, got %g", i, want, got[i])
		}
	}
	return ""
}
