package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// outputLine is a row of a file of results, whose values are its own.
func outputLine(row int) string {
	return fmt.Sprintf(`{"sheaf_row":%d,"id":%d,"prediction":[%d,1,2,3,4,5,6,7,8,9]}`, row, row-1, row) + "\n"
}

func readText(t *testing.T, text string, rows int64, ordered bool) (*answers, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.jsonl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readAnswers(file, rowForm{format: formatJSONL}, rows, ordered)
}

func TestAnswersThatCannotBeRight(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"twice":         {outputLine(1) + outputLine(1), "twice"},
		"not there":     {outputLine(4), "not one of"},
		"another's ID":  {strings.Replace(outputLine(2), `"id":1`, `"id":0`, 1), "ID of another"},
		"no ID":         {strings.Replace(outputLine(2), `"id":1,`, ``, 1), "ID of another"},
		"a value fewer": {strings.Replace(outputLine(2), `,9]`, `]`, 1), "9 values"},
		"out of order":  {outputLine(3) + outputLine(2), "comes after"},
		"cut off":       {outputLine(1) + outputLine(2)[:30], "line 2"},
	} {
		if _, err := readText(t, c.text, 3, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: expected an error with %q, got %v", name, c.want, err)
		}
	}
	a, err := readText(t, outputLine(3)+outputLine(2), 3, false)
	if err != nil || a.n != 2 || a.seen[0] || a.values[classes] != 2 {
		t.Errorf("unordered rows: %v, %v", a, err)
	}
}

func TestCompareAnswers(t *testing.T) {
	want, err := readText(t, outputLine(1)+outputLine(2)+outputLine(3), 4, true)
	if err != nil {
		t.Fatal(err)
	}
	if c := compareAnswers(want, want); c.Rows != 3 || c.Identical != 3 || c.failure("") != nil {
		t.Errorf("a file and itself: %+v", c)
	}
	near := strings.Replace(outputLine(2), "[2", "[2.000009", 1)
	wrong := strings.Replace(outputLine(3), "[3", "[3.00002", 1)
	got, err := readText(t, near+wrong+outputLine(4), 4, true)
	if err != nil {
		t.Fatal(err)
	}
	c := compareAnswers(got, want)
	if c.Rows != 2 || c.Identical != 0 || c.Wrong != 1 || c.Missing != 1 || c.Excess != 1 || c.failure("") == nil {
		t.Errorf("one wrong, one missing and one too many: %+v", c)
	}
}

// Lists in Parquet may have any names inside.
func TestParquetAnswers(t *testing.T) {
	type row struct {
		Row        int64     `parquet:"sheaf_row"`
		ID         *int64    `parquet:"id,optional"`
		Prediction []float32 `parquet:"prediction,list"`
	}
	file := filepath.Join(t.TempDir(), "out.parquet")
	first, second := int64(0), int64(1)
	values := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	if err := parquet.WriteFile(file, []row{{2, &second, values}, {1, &first, values}}); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswers(file, rowForm{format: formatParquet}, 2, false)
	if err != nil || a.n != 2 || a.values[classes+9] != 10 {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestBadRowsAreThoseOfTheLedger(t *testing.T) {
	ledger := []ledgerEntry{{Row: 3, Line: 4, Fault: faultShort}, {Row: 8, Line: 9, Fault: faultText}}
	for name, c := range map[string]struct {
		got  []badRow
		want string
	}{
		"the same":       {[]badRow{{9, "b"}, {4, "a"}}, ""},
		"one is missing": {[]badRow{{9, "b"}}, "line 4 (short) is not in"},
		"the last is":    {[]badRow{{4, "a"}}, "line 9 (text) is not in"},
		"one too many":   {[]badRow{{4, "a"}, {5, "x"}, {9, "b"}}, "line 5 is in the file"},
		"one at the end": {[]badRow{{4, "a"}, {9, "b"}, {12, "x"}}, "line 12 is in the file"},
		"twice":          {[]badRow{{4, "a"}, {4, "a"}, {9, "b"}}, "line 4 is in the file"},
		"no reason":      {[]badRow{{4, "a"}, {9, ""}}, "has no reason"},
	} {
		err := sameBad(c.got, ledger)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: expected %q, got %v", name, c.want, err)
		}
	}
}

func TestMomentsAreThoseOfTheSeed(t *testing.T) {
	c := &backfillChaosConfig{kills: 10, workerKill: 4, redisKill: 3}
	c.seed = 5
	list := c.moments()
	count := map[string]int{}
	for i, m := range list {
		count[m.what]++
		if m.share < 0 || m.share >= 1 || i > 0 && m.share < list[i-1].share {
			t.Errorf("moment %d is at %v", i, m.share)
		}
	}
	if len(list) != 17 || count[theCommand] != 10 || count[theWorker] != 4 || count[theRedis] != 3 {
		t.Errorf("expected 10, 4 and 3 kills, got %v", count)
	}
	if again := c.moments(); again[3] != list[3] {
		t.Errorf("the same seed gave other moments")
	}
	c.seed = 6
	if other := c.moments(); other[3] == list[3] {
		t.Errorf("another seed gave the same moments")
	}
}
