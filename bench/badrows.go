package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// Columns of the files of bad rows.
const (
	columnLine  = "sheaf_line"
	columnError = "sheaf_error"
)

// badRow is a line of a file of bad rows.
type badRow struct {
	line   int64
	reason string
}

// readBad reads a file of bad rows, in its order.
func readBad(file string, form rowForm) ([]badRow, error) {
	b, err := os.ReadFile(file) //nolint:gosec // a file of this run
	if err != nil {
		return nil, err
	}
	switch form.format {
	case formatParquet:
		return readParquetBad(b)
	case formatCSV:
		return readCSVBad(b)
	}
	var list []badRow
	for line := range bytes.Lines(b) {
		var doc struct {
			Line  int64  `json:"sheaf_line"`
			Error string `json:"sheaf_error"`
		}
		if err := json.Unmarshal(line, &doc); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", file, len(list)+1, err)
		}
		list = append(list, badRow{line: doc.Line, reason: doc.Error})
	}
	return list, nil
}

func readCSVBad(b []byte) ([]badRow, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord = -1 // that of a bad row may be another
	records, err := r.ReadAll()
	if err != nil || len(records) == 0 {
		return nil, fmt.Errorf("a file of bad rows has no header: %w", err)
	}
	line, reason := slices.Index(records[0], columnLine), slices.Index(records[0], columnError)
	if line < 0 || reason < 0 {
		return nil, fmt.Errorf("a file of bad rows has the columns %v: expected %s and %s too", records[0], columnLine, columnError)
	}
	var list []badRow
	for _, record := range records[1:] {
		if len(record) <= max(line, reason) {
			return nil, fmt.Errorf("a bad row has no %s: %v", columnLine, record)
		}
		n, err := strconv.ParseInt(record[line], 10, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, badRow{line: n, reason: record[reason]})
	}
	return list, nil
}

func readParquetBad(b []byte) (list []badRow, err error) {
	err = readParquet(bytes.NewReader(b), int64(len(b)), func(values func(yield func(string, parquet.Value))) error {
		var next badRow
		values(func(column string, v parquet.Value) {
			switch column {
			case columnLine:
				next.line = v.Int64()
			case columnError:
				next.reason = v.String()
			}
		})
		list = append(list, next)
		return nil
	})
	return list, err
}

// sameBad says what is wrong with a file of bad rows: it must have exactly those of the ledger, each with a reason.
func sameBad(got []badRow, ledger []ledgerEntry) error {
	got = slices.Clone(got)
	slices.SortStableFunc(got, func(a, b badRow) int { return int(a.line - b.line) })
	for i, want := range ledger {
		switch {
		case i >= len(got) || got[i].line > want.Line:
			return fmt.Errorf("the bad row in line %d (%s) is not in the file of bad rows", want.Line, want.Fault)
		case got[i].line < want.Line:
			return fmt.Errorf("the row in line %d is in the file of bad rows and is a good one: %s", got[i].line, got[i].reason)
		case got[i].reason == "":
			return fmt.Errorf("the bad row in line %d (%s) has no reason", want.Line, want.Fault)
		}
	}
	if len(got) > len(ledger) {
		return fmt.Errorf("the row in line %d is in the file of bad rows and is a good one: %s", got[len(ledger)].line, got[len(ledger)].reason)
	}
	return nil
}

// sameReasons compares the file of bad rows with that of its second submission, whose lines are those of the first. Some
// rows have another form by then, and so another reason: what was not JSON is text in a column, and a line of CSV with too
// few or too many fields has as many as the others.
func sameReasons(first, second []badRow, ledger []ledgerEntry, form rowForm) error {
	if len(first) != len(second) {
		return fmt.Errorf("%d bad rows were submitted again, and %d were bad", len(first), len(second))
	}
	reshaped := []fault{faultNotJSON}
	if form.format == formatCSV {
		reshaped = []fault{faultShort, faultLong}
	}
	faults := make(map[int64]fault, len(ledger))
	for _, e := range ledger {
		faults[e.Line] = e.Fault
	}
	second = slices.Clone(second)
	slices.SortStableFunc(second, func(a, b badRow) int { return int(a.line - b.line) })
	for i := range first {
		if first[i].reason != second[i].reason && !slices.Contains(reshaped, faults[first[i].line]) {
			return fmt.Errorf("the bad row of line %d had the reason %q, and the second time %q", first[i].line, first[i].reason, second[i].reason)
		}
	}
	return nil
}
