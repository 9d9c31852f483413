package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"
)

const heldOutFile = "../examples/models/digits/heldout.jsonl"

var rowForms = []rowForm{
	{format: formatJSONL}, {format: formatJSONL, wide: true}, {format: formatCSV, wide: true}, {format: formatParquet}, {format: formatParquet, wide: true},
}

func (f rowForm) String() string { return fmt.Sprintf("%s wide=%t", f.format, f.wide) }

// A file has the rows that were asked for, and its ledger names those, and only those, that a model cannot be asked.
func TestFilesOfRows(t *testing.T) {
	for _, form := range rowForms {
		t.Run(form.String(), func(t *testing.T) {
			const n = 3000
			file := filepath.Join(t.TempDir(), "rows")
			rows, err := newManyRows(heldOutFile, 7, 0.05, form)
			if err != nil {
				t.Fatal(err)
			}
			if err := makeRows(t.Context(), file, form, rows, n); err != nil {
				t.Fatal(err)
			}
			ledger, err := readLedger(file)
			if err != nil {
				t.Fatal(err)
			}
			read := readForm(t, file, form)
			if len(read) != n {
				t.Fatalf("the file has %d rows, expected %d", len(read), n)
			}
			var bad []int64
			kinds := map[fault]bool{}
			for _, e := range ledger {
				bad = append(bad, e.Row)
				kinds[e.Fault] = true
				if want := e.Row + int64(len(read)-n) + headerOf(form); e.Line != want {
					t.Errorf("row %d stands in line %d by the ledger, expected %d", e.Row, e.Line, want)
				}
			}
			if share := float64(len(bad)) / n; share < 0.03 || share > 0.07 {
				t.Errorf("%.3f of the rows are bad, expected about 0.05", share)
			}
			if len(kinds) != len(faultsOf(form)) {
				t.Errorf("the bad rows have the faults %v, expected all of %v", kinds, faultsOf(form))
			}
			var want [rowWidth]uint8
			for i, got := range read {
				fault := rows.row(int64(i), &want)
				if isBad := slices.Contains(bad, int64(i)+1); isBad != (got == nil) || isBad != (fault != "") {
					t.Fatalf("row %d: bad by the ledger: %t, readable: %t, fault %q", i+1, isBad, got != nil, fault)
				}
				for k := range got {
					if got[k] != float32(want[k]) {
						t.Fatalf("row %d: pixel %d is %g, expected %d", i+1, k, got[k], want[k])
					}
				}
			}
		})
	}
}

func headerOf(form rowForm) int64 {
	if form.format == formatCSV {
		return 1
	}
	return 0
}

// readForm reads the pixels of each row, nil of a bad one.
func readForm(t *testing.T, file string, form rowForm) (list [][]float32) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch form.format {
	case formatParquet:
		row := int64(0)
		err = readParquet(bytes.NewReader(b), int64(len(b)), func(values func(func(string, parquet.Value))) error {
			var pixels []float32
			values(func(column string, v parquet.Value) {
				if column != columnID {
					pixels = append(pixels, v.Float())
				} else if v.Int64() != row {
					t.Errorf("row %d has the ID %d", row+1, v.Int64())
				}
			})
			row++
			list = append(list, whole(pixels))
			return nil
		})
	case formatCSV:
		r := csv.NewReader(bytes.NewReader(b))
		r.FieldsPerRecord = -1
		var records [][]string
		if records, err = r.ReadAll(); err == nil {
			for _, record := range records[1:] {
				list = append(list, numbers(record[1:]))
			}
		}
	default:
		for line := range bytes.Lines(b) {
			list = append(list, fromJSON(line, form.wide))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func whole(pixels []float32) []float32 {
	if len(pixels) != rowWidth {
		return nil
	}
	return pixels
}

func numbers(fields []string) (pixels []float32) {
	for _, f := range fields {
		v, err := strconv.ParseFloat(f, 32)
		if err != nil {
			return nil
		}
		pixels = append(pixels, float32(v))
	}
	return whole(pixels)
}

func fromJSON(line []byte, wide bool) (pixels []float32) {
	var doc map[string]any
	if json.Unmarshal(line, &doc) != nil {
		return nil
	}
	list, _ := doc[columnPixels].([]any)
	for i := range rowWidth {
		if wide {
			list = append(list, doc[pixelColumn(i)])
		}
	}
	for _, v := range list {
		number, ok := v.(float64)
		if !ok {
			return nil
		}
		pixels = append(pixels, float32(number))
	}
	return whole(pixels)
}

func TestRowsDifferAndAreTheSameEachTime(t *testing.T) {
	form := rowForm{format: formatJSONL}
	rows, err := newManyRows(heldOutFile, 1, 0, form)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[rowWidth]uint8]int64{}
	var pixels [rowWidth]uint8
	const n = 100_000
	for i := range int64(n) {
		rows.row(i, &pixels)
		seen[pixels] = i
	}
	if len(seen) < n*999/1000 {
		t.Errorf("of %d rows %d are different", n, len(seen))
	}
	again, err := newManyRows(heldOutFile, 1, 0, form)
	if err != nil {
		t.Fatal(err)
	}
	for at, i := range seen {
		if again.row(i, &pixels); pixels != at {
			t.Fatalf("row %d is another the second time", i+1)
		}
	}
}
