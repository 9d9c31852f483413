package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// Columns of the files of results, as docs/backfill.md has them.
const (
	columnRow        = "sheaf_row"
	columnPrediction = "prediction"
)

// answers are the predictions of a file of results, by row: where they stand in the file matters only if it is ordered.
type answers struct {
	values []float32 // of classes a row
	seen   []bool
	n      int64
}

// readAnswers reads a file of results of so many rows. A row that is there twice, that has no place among them, that has
// another row's ID or is out of order is an error.
func readAnswers(file string, form rowForm, rows int64, ordered bool) (*answers, error) {
	f, err := os.Open(file) //nolint:gosec // a file of this run
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	a := &answers{values: make([]float32, rows*classes), seen: make([]bool, rows)}
	last := int64(0)
	add := func(row int64, id *int64, prediction []float32) error {
		switch {
		case row < 1 || row > rows:
			return fmt.Errorf("row %d is not one of the %d of the input", row, rows)
		case a.seen[row-1]:
			return fmt.Errorf("row %d is there twice", row)
		case id == nil || *id != row-1:
			return fmt.Errorf("row %d has the ID of another", row)
		case len(prediction) != classes:
			return fmt.Errorf("row %d has %d values, expected %d", row, len(prediction), classes)
		case ordered && row <= last:
			return fmt.Errorf("row %d comes after row %d", row, last)
		}
		last = row
		a.seen[row-1] = true
		a.n++
		copy(a.values[(row-1)*classes:], prediction)
		return nil
	}
	switch form.format {
	case formatParquet:
		err = readParquetAnswers(f, add)
	case formatCSV:
		err = readCSVAnswers(f, add)
	default:
		err = readJSONAnswers(f, add)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

func readJSONAnswers(r io.Reader, add func(row int64, id *int64, prediction []float32) error) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		var doc struct {
			Row        int64     `json:"sheaf_row"`
			ID         *int64    `json:"id"`
			Prediction []float32 `json:"prediction"`
		}
		if err := json.Unmarshal(line, &doc); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := add(doc.Row, doc.ID, doc.Prediction); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// readCSVAnswers expects a column for each value, after the row and the ID.
func readCSVAnswers(r io.Reader, add func(row int64, id *int64, prediction []float32) error) error {
	records := csv.NewReader(r)
	records.ReuseRecord = true
	header, err := records.Read()
	if err != nil || len(header) < 2 || header[0] != columnRow || header[1] != columnID {
		return fmt.Errorf("the header is %v: expected %s and %s first (%w)", header, columnRow, columnID, err)
	}
	prediction := make([]float32, len(header)-2)
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		row, rowErr := strconv.ParseInt(record[0], 10, 64)
		id, idErr := strconv.ParseInt(record[1], 10, 64)
		err = errors.Join(rowErr, idErr)
		for i := range prediction {
			v, valueErr := strconv.ParseFloat(record[2+i], 32)
			err = errors.Join(err, valueErr)
			prediction[i] = float32(v)
		}
		if err != nil {
			return err
		}
		if err := add(row, &id, prediction); err != nil {
			return err
		}
	}
}

func readParquetAnswers(f *os.File, add func(row int64, id *int64, prediction []float32) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	prediction := make([]float32, 0, classes)
	return readParquet(f, info.Size(), func(values func(yield func(string, parquet.Value))) error {
		row, id := int64(0), (*int64)(nil)
		prediction = prediction[:0]
		values(func(column string, v parquet.Value) {
			switch column {
			case columnRow:
				row = v.Int64()
			case columnID:
				number := v.Int64()
				id = &number
			case columnPrediction:
				prediction = append(prediction, v.Float())
			}
		})
		return add(row, id, prediction)
	})
}

// readParquet hands out the values of each row that are not null, with the names of their columns. It knows of no schema,
// so that it reads whatever a writer makes of lists.
func readParquet(f io.ReaderAt, size int64, fn func(values func(yield func(string, parquet.Value))) error) error {
	file, err := parquet.OpenFile(f, size)
	if err != nil {
		return err
	}
	columns := file.Schema().Columns()
	rows := make([]parquet.Row, 256)
	read := func(reader parquet.Rows) error {
		for {
			n, err := reader.ReadRows(rows)
			for _, row := range rows[:n] {
				err := fn(func(yield func(string, parquet.Value)) {
					for _, v := range row {
						if !v.IsNull() {
							yield(columns[v.Column()][0], v)
						}
					}
				})
				if err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	for _, group := range file.RowGroups() {
		reader := group.Rows()
		if err := errors.Join(read(reader), reader.Close()); err != nil {
			return err
		}
	}
	return nil
}

// comparison is what comparing two files of results has shown.
type comparison struct {
	Rows      int64 `json:"rows"`      // that both have
	Identical int64 `json:"identical"` // to the last bit
	Wrong     int64 `json:"wrong"`     // further apart than the tolerance
	Missing   int64 `json:"missing"`   // only the wanted file has
	Excess    int64 `json:"excess"`    // only the other has
	Evidence  string
}

func (c *comparison) failure(what string) error {
	if c.Wrong+c.Missing+c.Excess == 0 {
		return nil
	}
	return fmt.Errorf("%s: of %d rows %d are wrong, %d are missing and %d should not be there; the first: %s", what, c.Rows, c.Wrong, c.Missing, c.Excess, c.Evidence)
}

// compareAnswers compares what was got with what is wanted, within the tolerance of the model's rows.
func compareAnswers(got, want *answers) *comparison {
	c := &comparison{}
	note := func(count *int64, format string, args ...any) {
		*count++
		if c.Evidence == "" {
			c.Evidence = fmt.Sprintf(format, args...)
		}
	}
	for i := range want.seen {
		switch {
		case want.seen[i] && !got.seen[i]:
			note(&c.Missing, "row %d is missing", i+1)
		case !want.seen[i] && got.seen[i]:
			note(&c.Excess, "row %d should not be there", i+1)
		case want.seen[i]:
			c.Rows++
			same, near := alike(got.values[i*classes:(i+1)*classes], want.values[i*classes:(i+1)*classes])
			if same {
				c.Identical++
			}
			if !near {
				note(&c.Wrong, "row %d: expected %v, got %v", i+1, want.values[i*classes:(i+1)*classes], got.values[i*classes:(i+1)*classes])
			}
		}
	}
	return c
}

// alike says whether values are the same to the last bit, and whether they are within the tolerance.
func alike(got, want []float32) (same, near bool) {
	same, near = true, true
	for k := range want {
		same = same && math.Float32bits(got[k]) == math.Float32bits(want[k])
		// The comparison is so that NaN is wrong too.
		near = near && math.Abs(float64(got[k])-float64(want[k])) <= rowTolerance
	}
	return same, near
}
