package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/internal/testserver"
)

// scored is a line of the output.
type scored struct {
	Row        int       `json:"sheaf_row"`
	ID         int       `json:"id"`
	Prediction []float64 `json:"prediction"`
	Pixels     []float64 `json:"pixels"`
}

// rowsFile writes n rows of digits, and returns what a direct run gives for them.
func rowsFile(t *testing.T, path string, n int) (answers [][]float64) {
	t.Helper()
	rows := heldout(t, "digits")
	var b bytes.Buffer
	for i := range n {
		r := rows[i%len(rows)]
		fmt.Fprintf(&b, `{"id":%d,"pixels":%s}`+"\n", i, jsonOf(t, r.Input))
		answers = append(answers, r.Probabilities)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return answers
}

// checkScored compares an output with what a direct run gives; in order, if it is to be.
func checkScored(t *testing.T, list []scored, answers [][]float64, ordered bool) {
	t.Helper()
	if len(list) != len(answers) {
		t.Fatalf("%d rows, expected %d", len(list), len(answers))
	}
	if !ordered {
		slices.SortFunc(list, func(a, b scored) int { return a.Row - b.Row })
	}
	for i, s := range list {
		if s.Row != i+1 || s.ID != i {
			t.Fatalf("row %d has number %d and id %d", i, s.Row, s.ID)
		}
		if err := sameProbabilities(s.Prediction, answers[i]); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}

// Rows go in and come out in every format, past the API and through it, and every answer is that of its row.
func TestBackfillFormats(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	answers := rowsFile(t, at("rows.jsonl"), 1000)
	direct := []string{"--nats-url", s.nats, "--redis-url", s.redis, "--id-column", "id"}
	server := []string{"--server", s.apis[0], "--id-column", "id"}
	step := func(in, out string, way []string, more ...string) {
		t.Helper()
		args := slices.Concat([]string{"backfill", "digits", at(in), "-o", at(out)}, way, more)
		stdout, stderr, code := runToEnd(t, "", args...)
		if code != 0 || stdout != "" || !strings.Contains(stderr, "1,000 rows to") {
			t.Fatalf("%v: exit %d\n%s%s", args, code, stdout, stderr)
		}
	}
	for name, way := range map[string][]string{"direct": direct, "server": server} {
		step("rows.jsonl", name+".jsonl", way, "--rows-per-job", "100")
		checkScored(t, readLines[scored](t, at(name+".jsonl")), answers, false)
		step("rows.jsonl", name+".ordered.jsonl", way, "--ordered", "--rows-per-job", "7")
		checkScored(t, readLines[scored](t, at(name+".ordered.jsonl")), answers, true)
	}
	step("rows.jsonl", "joined.jsonl", direct, "--join", "--ordered", "--outputs", "probabilities")
	joined := readLines[map[string]json.RawMessage](t, at("joined.jsonl"))
	if len(joined) != 1000 || joined[7]["pixels"] == nil || joined[7]["probabilities"] == nil || string(joined[7]["id"]) != "7" {
		t.Errorf("joined: %d rows, %v", len(joined), joined[7])
	}
	step("rows.jsonl", "plain.csv.gz", direct, "--ordered")
	f, err := os.Open(at("plain.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(unzipped).ReadAll()
	if err != nil || len(records) != 1001 || strings.Join(records[0][:3], " ") != "sheaf_row id prediction_0" {
		t.Fatalf("%d records, %v, %v", len(records), records[0], err)
	}
	var list []scored
	for _, r := range records[1:] {
		var one scored
		one.Row, _ = strconv.Atoi(r[0])
		one.ID, _ = strconv.Atoi(r[1])
		for _, text := range r[2:] {
			f, _ := strconv.ParseFloat(text, 64)
			one.Prediction = append(one.Prediction, f)
		}
		list = append(list, one)
	}
	checkScored(t, list, answers, true)
	// Parquet, read again as an input: ten columns of numbers are not what digits takes, and the error says so.
	step("rows.jsonl", "scored.parquet", direct)
	_, stderr, code := runToEnd(t, "", slices.Concat([]string{"backfill", "digits", at("scored.parquet"), "-o", at("x.jsonl")}, direct)...)
	if code != 2 || !strings.Contains(stderr, "sheaf_row") || !strings.Contains(stderr, "--input") {
		t.Errorf("a table that does not suit: exit %d, %s", code, stderr)
	}
}

// A pipe in, a pipe out.
func TestBackfillPipes(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, 1)
	dir := t.TempDir()
	answers := rowsFile(t, filepath.Join(dir, "rows.jsonl"), 300)
	text, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runToEnd(t, string(text), "backfill", "digits", "-", "--input-format", "jsonl", "-o", "-", "--id-column", "id",
		"--nats-url", s.nats, "--redis-url", s.redis, "--progress", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	out := filepath.Join(dir, "out.jsonl")
	if err := os.WriteFile(out, []byte(stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	checkScored(t, readLines[scored](t, out), answers, false)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	var last backfillStatus
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Event != "done" || last.Rows != 300 || last.Errors != 0 {
		t.Errorf("the last line: %v %+v", err, last)
	}
}

// Killed, interrupted and started again, the command does what is missing, and no row is there twice.
func TestBackfillGoesOn(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"jsonl", "parquet", "csv.zst", "jsonl through the API"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			format, over, _ := strings.Cut(name, " ")
			s := newStack(t, 1, 1)
			way := []string{"--nats-url", s.nats, "--redis-url", s.redis}
			if over != "" {
				way = []string{"--server", s.apis[0]}
			}
			dir := t.TempDir()
			in, out, calm := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "out."+format), filepath.Join(dir, "calm."+format)
			answers := rowsFile(t, in, 20_000)
			args := func(out string, more ...string) []string {
				return slices.Concat([]string{"backfill", "digits", in, "-o", out, "--id-column", "id", "--ordered", "--rows-per-job", "50"}, way, more)
			}
			if _, stderr, code := runToEnd(t, "", args(calm)...); code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			// It is slow enough to be met in the middle, and commits often.
			slow := args(out, "--max-rate", "10000", "--commit-every", "20ms", "--progress", "json")
			for kill, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL} {
				p := start(t, slow...)
				eventually(t, func() error { return keptRows(out+".checkpoint", (kill+1)*3000) })
				if err := p.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				<-p.exited
				if sig == syscall.SIGINT {
					if code := p.cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(p.text(), "Go on with:\n  sheaf backfill digits ") {
						t.Errorf("interrupted: exit %d\n%s", code, p.text())
					}
				}
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("the output stands in its place before it is complete")
			}
			_, stderr, code := runToEnd(t, "", args(out)...)
			if code != 0 || !strings.Contains(stderr, "Goes on after") {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			_, stderr, code = runToEnd(t, "", args(out)...)
			if code != 0 || !strings.Contains(stderr, "complete already: 20,000 rows") {
				t.Errorf("once more: exit %d: %s", code, stderr)
			}
			if format == "jsonl" {
				checkScored(t, readLines[scored](t, out), answers, true)
			}
			got, want := readTable(t, out), readTable(t, calm)
			if len(want) != 20_000 || !slices.Equal(got, want) {
				t.Errorf("%d rows, and %d of a run that nobody disturbed", len(got), len(want))
			}
			left, err := filepath.Glob(out + ".*")
			if err != nil || len(left) != 1 || left[0] != out+".checkpoint" {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// keptRows says why a checkpoint has not so many rows.
func keptRows(path string, rows int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var c struct{ Rows int }
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	if c.Rows < rows {
		return fmt.Errorf("%d rows are kept", c.Rows)
	}
	return nil
}

// tableFile is a file of this machine as a table's input.
type tableFile struct{ *localInput }

// readTable returns the rows of a file as lines of JSON.
func readTable(t *testing.T, path string) (lines []string) {
	t.Helper()
	format, compression, err := table.FormatOf(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	src, err := table.Open(tableFile{&localInput{f, stat.Size()}}, format, compression, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for {
		b, err := src.Read(1000)
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		for row := range b.Rows() {
			var line []byte
			for c := range src.Columns() {
				line = append(b.AppendCell(line, row, c), ' ')
			}
			lines = append(lines, string(line))
		}
	}
}

// Jobs are no larger than the server takes.
func TestBackfillFitsTheServer(t *testing.T) {
	s := newStack(t, 1, 1)
	small := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis, "--max-body-bytes", "20000")
	url := small.find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if code, body := get(t, url+"/v1/models/digits"); code != http.StatusOK {
			return fmt.Errorf("digits is not announced: %d %s", code, body)
		}
		return nil
	})
	dir := t.TempDir()
	in, out := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "out.jsonl")
	answers := rowsFile(t, in, 300)
	if _, stderr, code := runToEnd(t, "", "backfill", "digits", in, "-o", out, "--id-column", "id", "--ordered", "--server", url); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	checkScored(t, readLines[scored](t, out), answers, true)
}

// What is wrong is said with what to do, by the exit codes of docs/backfill.md, and nothing is overwritten.
func TestBackfillRefusals(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	rowsFile(t, at("rows.jsonl"), 100)
	for name, text := range map[string]string{"mine.jsonl": "mine\n", "bad.jsonl": strings.Repeat(`{"pixels":[1]}`+"\n", 50), "empty.jsonl": "", "odd.txt": "x", "two.jsonl": `{"a":[1,2],"b":[3]}` + "\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	direct := []string{"--nats-url", s.nats, "--redis-url", s.redis}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an output of somebody else": {slices.Concat([]string{"digits", at("rows.jsonl"), "-o", at("mine.jsonl")}, direct), 2, "--overwrite"},
		"no output":                  {slices.Concat([]string{"digits", at("rows.jsonl")}, direct), 2, "-o OUTPUT is missing"},
		"no input":                   {slices.Concat([]string{"digits", at("none.jsonl"), "-o", at("o.jsonl")}, direct), 2, "no such file"},
		"a folder":                   {slices.Concat([]string{"digits", dir, "-o", at("o.jsonl")}, direct), 2, "format"},
		"a format":                   {slices.Concat([]string{"digits", at("odd.txt"), "-o", at("o.jsonl")}, direct), 2, "--input-format"},
		"columns":                    {slices.Concat([]string{"digits", at("two.jsonl"), "-o", at("o.jsonl")}, direct), 2, "--input x="},
		"an ID":                      {slices.Concat([]string{"digits", at("rows.jsonl"), "-o", at("o.jsonl"), "--id-column", "nr"}, direct), 2, "nr"},
		"an output of the model":     {slices.Concat([]string{"digits", at("rows.jsonl"), "-o", at("o.jsonl"), "--outputs", "nope"}, direct), 2, "nope"},
		"several faults":             {slices.Concat([]string{"digits", at("rows.jsonl"), "--window", "25:00-1", "--progress", "loud", "--input", "x"}, direct), 2, "loud"},
		"two ways":                   {slices.Concat([]string{"digits", at("rows.jsonl"), "-o", at("o.jsonl"), "--server", s.apis[0]}, direct), 2, "two ways"},
		"an unknown model":           {slices.Concat([]string{"nobody", at("rows.jsonl"), "-o", at("o.jsonl")}, direct), 1, "digits/1"},
		"one of a server's":          {[]string{"nobody", at("rows.jsonl"), "-o", at("o.jsonl"), "--server", s.apis[0]}, 1, "no worker has announced"},
		"nobody there":               {[]string{"digits", at("rows.jsonl"), "-o", at("o.jsonl"), "--server", "http://127.0.0.1:1"}, 4, "cannot reach"},
		"too many errors":            {slices.Concat([]string{"digits", at("bad.jsonl"), "-o", at("b.jsonl"), "--max-errors", "9", "--rows-per-job", "5", "--input-column", "pixels"}, direct), 1, "--max-errors"},
		"nothing but errors":         {slices.Concat([]string{"digits", at("bad.jsonl"), "-o", at("c.jsonl"), "--input-column", "pixels"}, direct), 3, "50 bad rows to"},
		"no rows":                    {slices.Concat([]string{"digits", at("empty.jsonl"), "-o", at("e.jsonl")}, direct), 0, "0 rows to"},
		"no storage":                 {slices.Concat([]string{"digits", "ftp://a/b.jsonl", "-o", at("o.jsonl")}, direct), 2, "s3://"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := runToEnd(t, "", append([]string{"backfill"}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
				t.Errorf("exit %d, expected %d and %q\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
	if text, err := os.ReadFile(at("mine.jsonl")); string(text) != "mine\n" || err != nil {
		t.Errorf("somebody's file has become %q, %v", text, err)
	}
	if _, err := os.Stat(at("o.jsonl")); err == nil {
		t.Error("a refused backfill wrote its output")
	}
	if _, err := os.Stat(at("e.jsonl")); err != nil {
		t.Errorf("no rows, no output: %v", err)
	}
}

// What is complete is not computed again, unless the input, or what is wanted of it, has changed.
func TestBackfillBeginsAnew(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, 1)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "out.jsonl")
	rowsFile(t, in, 200)
	for i, step := range []struct {
		rows int // of the input from now on; 0: as before
		more []string
		says string
	}{
		{200, nil, "200 rows to"},
		{0, nil, "complete already: 200 rows"},
		{0, []string{"--join"}, "Begins anew: since the last run other: form of the output."},
		{0, []string{"--join"}, "complete already"},
		{201, []string{"--join"}, "Begins anew: since the last run other: content of the input."},
		{0, []string{"--join", "--overwrite"}, "201 rows to"},
		{0, []string{"--join", "--rows-per-job", "3"}, "rows of a job"},
	} {
		if step.rows > 0 {
			rowsFile(t, in, step.rows)
		}
		_, stderr, code := runToEnd(t, "", slices.Concat([]string{"backfill", "digits", in, "-o", out, "--nats-url", s.nats, "--redis-url", s.redis}, step.more)...)
		if code != 0 || !strings.Contains(stderr, step.says) {
			t.Fatalf("step %d: exit %d, expected %q: %s", i, code, step.says, stderr)
		}
	}
	if got := readLines[scored](t, out); len(got) != 201 {
		t.Errorf("%d rows", len(got))
	}
}

// Signals pause a backfill and let it go on.
func TestBackfillPauses(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, 1)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "out.jsonl")
	answers := rowsFile(t, in, 3000)
	p := start(t, "backfill", "digits", in, "-o", out, "--id-column", "id", "--nats-url", s.nats, "--redis-url", s.redis, "--max-rate", "1000",
		"--rows-per-job", "50", "--commit-every", "20ms", "--progress", "json")
	eventually(t, func() error { return keptRows(out+".checkpoint", 500) })
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p.find(`"waiting":"paused"`)
	if _, err := os.Stat(out); err == nil {
		t.Error("it went on while it was paused")
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.find(`"event":"done"`)
	<-p.exited
	checkScored(t, readLines[scored](t, out), answers, false)
}

// A dry run shows what the model sees and says, and leaves nothing behind.
func TestBackfillDryRun(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, 1)
	in := filepath.Join(t.TempDir(), "rows.jsonl")
	rowsFile(t, in, 10)
	stdout, stderr, code := runToEnd(t, "", "backfill", "digits", in, "-o", in+".out.jsonl", "--dry-run", "--id-column", "id", "--nats-url", s.nats, "--redis-url", s.redis)
	for _, want := range []string{"input x FP32 [64]: column pixels", "passed through: id", "row 3 (line 3)", "x = [[0,0,", "→ prediction = [[0.", "Nothing was written"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if files, err := filepath.Glob(in + "*"); code != 0 || len(files) != 1 || err != nil {
		t.Errorf("exit %d, %v, %v\n%s%s", code, files, err, stdout, stderr)
	}
}

// Objects of a storage service are read and written as files are, and a run that was killed goes on.
func TestBackfillStorage(t *testing.T) {
	s3 := testserver.StartS3(t, "lake")
	t.Setenv("AWS_ACCESS_KEY_ID", s3.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.Secret)
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	s := newStack(t, 0, 1)
	answers := rowsFile(t, s3.Path("lake", "rows.jsonl"), 5000)
	way := []string{"--id-column", "id", "--nats-url", s.nats, "--redis-url", s.redis, "--ordered"}
	for _, step := range [][]string{{"rows.jsonl", "scored.parquet", "--join"}, {"scored.parquet", "again.jsonl", "--input-column", "pixels"}} {
		in, out := s3.URL("lake", step[0]), s3.URL("lake", step[1])
		if step[0] == "scored.parquet" {
			in = s3.URL("lake", "rows.jsonl") // JSON lines say of a list only that it is one: as Parquet it is a text
			step = step[:2]
		}
		_, stderr, code := runToEnd(t, "", slices.Concat([]string{"backfill", "digits", in, "-o", out}, way, step[2:])...)
		if code != 0 {
			t.Fatalf("%v: exit %d: %s", step, code, stderr)
		}
		_, stderr, code = runToEnd(t, "", slices.Concat([]string{"backfill", "digits", in, "-o", out}, way, step[2:])...)
		if code != 0 || !strings.Contains(stderr, "complete already") {
			t.Fatalf("%v once more: exit %d: %s", step, code, stderr)
		}
	}
	checkScored(t, readLines[scored](t, s3.Path("lake", "again.jsonl")), answers, true)
	if rows := readTable(t, s3.Path("lake", "scored.parquet")); len(rows) != 5000 {
		t.Errorf("%d rows", len(rows))
	}
	p := start(t, slices.Concat([]string{"backfill", "digits", s3.URL("lake", "rows.jsonl"), "-o", s3.URL("lake", "slow.jsonl"), "--max-rate", "1000", "--rows-per-job", "50", "--commit-every", "20ms", "--progress", "json"}, way)...)
	eventually(t, func() error {
		found, err := filepath.Glob(filepath.Join(cache, "sheaf", "backfill", "*slow.jsonl.checkpoint"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%v, %w", found, err)
		}
		return keptRows(found[0], 500)
	})
	p.stop(syscall.SIGKILL)
	if _, err := os.Stat(s3.Path("lake", "slow.jsonl")); err == nil {
		t.Error("there before it is complete")
	}
	_, stderr, code := runToEnd(t, "", slices.Concat([]string{"backfill", "digits", s3.URL("lake", "rows.jsonl"), "-o", s3.URL("lake", "slow.jsonl"), "--rows-per-job", "50"}, way)...)
	if code != 0 || !strings.Contains(stderr, "Goes on after") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	checkScored(t, readLines[scored](t, s3.Path("lake", "slow.jsonl")), answers, true)
}
