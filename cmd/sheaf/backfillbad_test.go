package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// spoil makes a row bad in one of several ways.
func spoil(kind int, id int, input []float64) string {
	list, _ := json.Marshal(input)
	text := string(list)
	switch kind % 6 {
	case 0:
		return fmt.Sprintf(`{"id":%d,"pixels":%s`, id, text[:len(text)/2]) // not JSON
	case 1:
		text = text[:strings.LastIndex(text, ",")] + "]" // too short
	case 2:
		text = strings.Replace(text, "]", ",1]", 1) // too long
	case 3:
		text = strings.Replace(text, "[0,", `["ink",`, 1)
	case 4:
		text = "null"
	case 5:
		return fmt.Sprintf(`{"id":%d}`, id)
	}
	return fmt.Sprintf(`{"id":%d,"pixels":%s}`, id, text)
}

// badLine is a line of a file of errors.
type badLine struct {
	Line   int    `json:"sheaf_line"`
	Reason string `json:"sheaf_error"`
	Raw    string `json:"sheaf_raw"`
}

func readLines[T any](t *testing.T, file string) (list []T) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var next T
		if err := json.Unmarshal(line, &next); err != nil {
			t.Fatalf("%s: %v: %s", file, err, line)
		}
		list = append(list, next)
	}
	return list
}

// Of a file with bad rows among the good ones, from the first row on, exactly the bad ones go to the file of errors, with
// their lines and reasons; the others get their answers. Submitted again, that file gives the same.
func TestBackfillSetsBadRowsApart(t *testing.T) {
	s := newStack(t, 1, 1) // the shim is there to wait for the model's announcement
	rows := heldout(t, "digits")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var text strings.Builder
	var bad []int // lines
	for i, r := range rows {
		if i%37 == 0 {
			bad = append(bad, i+1)
			fmt.Fprintln(&text, spoil(i/37, i, r.Input))
			continue
		}
		fmt.Fprintf(&text, `{"id":%d,"pixels":%s}`+"\n", i, jsonOf(t, r.Input))
	}
	if err := os.WriteFile(at("rows.jsonl"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	backfill := func(in, out string) {
		t.Helper()
		_, stderr, code := runToEnd(t, "", "backfill", "digits", at(in), "-o", at(out), "--nats-url", s.nats, "--redis-url", s.redis,
			"--id-column", "id", "--input-column", "pixels", "--ordered", "--rows-per-job", "64")
		if code != exitBadRows {
			t.Fatalf("%s: expected the exit code %d, got %d:\n%s", in, exitBadRows, code, stderr)
		}
	}
	backfill("rows.jsonl", "out.jsonl")

	type answer struct {
		Row        int       `json:"sheaf_row"`
		ID         int       `json:"id"`
		Prediction []float64 `json:"prediction"`
	}
	answers := readLines[answer](t, at("out.jsonl"))
	if len(answers)+len(bad) != len(rows) {
		t.Fatalf("%d rows have answers and %d are bad, of %d", len(answers), len(bad), len(rows))
	}
	next := 0
	for i, r := range rows {
		if i%37 == 0 {
			continue
		}
		a := answers[next]
		next++
		if a.Row != i+1 || a.ID != i {
			t.Fatalf("expected row %d with the ID %d, got %d with %d", i+1, i, a.Row, a.ID)
		}
		if err := sameProbabilities(a.Prediction, r.Probabilities); err != nil {
			t.Errorf("row %d: %v", a.Row, err)
		}
	}

	first := readLines[badLine](t, at("out.errors.jsonl"))
	if len(first) != len(bad) {
		t.Fatalf("%d rows are in the file of errors, expected %d: %+v", len(first), len(bad), first)
	}
	for i, b := range first {
		if b.Line != bad[i] || b.Reason == "" {
			t.Errorf("expected line %d with a reason, got %+v", bad[i], b)
		}
	}
	backfill("out.errors.jsonl", "again.jsonl")
	if more := readLines[answer](t, at("again.jsonl")); len(more) > 0 {
		t.Errorf("bad rows have answers the second time: %+v", more)
	}
	second := readLines[badLine](t, at("again.errors.jsonl"))
	if len(second) != len(first) {
		t.Fatalf("%d bad rows were submitted again, and %d are bad", len(first), len(second))
	}
	for i, b := range second {
		// What was not JSON is text in a column by then.
		if b.Line != i+1 || first[i].Raw == "" && b.Reason != first[i].Reason {
			t.Errorf("row %d: the reason was %q, and is %q in line %d", i+1, first[i].Reason, b.Reason, b.Line)
		}
	}
}
