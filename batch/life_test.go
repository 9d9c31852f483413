package batch_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/job"
)

// spoil makes some lines bad, each in its way.
func spoil(i int, line string) string {
	switch i {
	case 3:
		return `{"custom_id":"c3","method":"POST"`
	case 14:
		return strings.Replace(line, "[14,2,3]", "[14,2]", 1)
	case 15:
		return strings.Replace(line, "POST", "GET", 1)
	case 26:
		return strings.Replace(line, "sum", "other", 1)
	case 37:
		return strings.Replace(line, `"custom_id":"c37",`, "", 1)
	case 48:
		return strings.Replace(line, "[48,", "[666,", 1)
	case 59:
		return "\n" + line // a blank line is none, and counts where lines are numbered
	}
	return line
}

func expected(n int) []string {
	list := []string{
		"? line 4: malformed ", "c14 line 15: invalid input", "c15 line 16: invalid method", "c26 line 27: invalid url",
		"? line 38: invalid custom_id", "c48 line 49: inference ",
	}
	for i := range n {
		if !slices.Contains([]int{3, 14, 15, 26, 37, 48}, i) {
			list = append(list, fmt.Sprintf("c%d: %d", i, i+5))
		}
	}
	slices.Sort(list)
	return list
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("too much: %s", line)
		}
	}
}

func TestABatchIsRunToItsEnd(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	const n = 500
	text := requests(n, spoil)
	file, err := p.PutFile(t.Context(), tenant, "in.jsonl", batch.PurposeBatch, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.text(t, file.ID); got != text {
		t.Errorf("the file came back with %d bytes of %d", len(got), len(text))
	}
	made, err := p.Create(t.Context(), tenant, batch.Spec{Endpoint: endpoint, InputFile: file.ID, Metadata: map[string]string{"k": "v"}, LinesPerJob: 7}, batch.Once{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Object != "batch" || made.Status != batch.Validating || made.Model != "sum" || made.Version != "3" || made.CompletionWindow != "24h" ||
		made.ExpiresAt != made.CreatedAt+24*3600 || made.InputFile != file.ID || made.Metadata["k"] != "v" || made.OutputFile != "" {
		t.Errorf("%+v", made)
	}
	b := p.end(t, made.ID, batch.Completed)
	if b.RequestCounts != (batch.Counts{Total: n, Completed: n - 6, Failed: 6}) || b.Rows != n-6 || b.InProgressAt == 0 || b.FinalizingAt == 0 || b.CompletedAt == 0 ||
		b.OutputFile == "" || b.ErrorFile == "" || b.ETA != 0 || b.Errors != nil {
		t.Errorf("%+v", b)
	}
	same(t, p.outcome(t, &b), expected(n))
	for _, a := range parse(t, p.text(t, b.OutputFile)) {
		if a.Response.Status != 200 || a.Response.Body.Model != "sum" || a.Response.Body.Version != "3" || a.Response.RequestID == "" || !strings.HasPrefix(a.ID, "batch_req_") {
			t.Fatalf("%+v", a)
		}
	}
	for i, id := range []string{b.OutputFile, b.ErrorFile} {
		f, err := p.File(t.Context(), tenant, id)
		if err != nil || f.Purpose != batch.PurposeOutput || f.Bytes != []int64{b.OutputBytes, b.ErrorBytes}[i] || f.ExpiresAt == 0 {
			t.Errorf("%+v, %v", f, err)
		}
	}
	eventually(t, "its message is removed", func() bool {
		left, err := p.q.BatchBacklog(t.Context())
		return err == nil && left == 0
	})
}

// The forms of lines, and of answers.
func TestFormsOfLines(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	plain := "\xef\xbb\xbf[1,2,3]\r\n\r\n[[1,2,3],[4,5,6]]\r\n" +
		`{"input":[7,8,9]}` + "\n" + `{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,1,1]}]}` + "\n" + `"text"` + "\n" +
		`{"input":[7,8,9],"lane":"interactive"}` + "\n" + `{"input":[1,1,1],"outputs":[{"name":"sum"}]}` + "\n" + "[2,2,2]"
	id := p.submit(t, plain, func(s *batch.Spec) { s.Plain, s.Ordered = true, true })
	b := p.end(t, id, batch.Completed)
	if b.RequestCounts != (batch.Counts{Total: 8, Completed: 5, Failed: 3}) || b.Rows != 6 {
		t.Errorf("%+v", b)
	}
	same(t, p.outcome(t, &b), []string{"1: 6", "3: [6 15]", "4: 24", "5: [3]", "6 line 6: invalid input", "7 line 7: invalid lane", "8 line 8: invalid outputs", "9: 6"})
	var order []string
	for _, a := range parse(t, p.text(t, b.OutputFile)) {
		order = append(order, *a.CustomID)
	}
	if got := strings.Join(order, " "); got != "1 3 4 5 9" {
		t.Errorf("the order is %s", got)
	}

	all := strings.ReplaceAll(requests(30, nil), endpoint, "/v1/models/sum/versions/3/jobs")
	id = p.submit(t, all, func(s *batch.Spec) { s.Endpoint = "/v1/models/sum/versions/3/jobs" })
	b = p.end(t, id, batch.Completed)
	for _, a := range parse(t, p.text(t, b.OutputFile)) {
		out := a.Response.Body.Outputs
		i := strings.TrimPrefix(*a.CustomID, "c")
		if len(out) != 2 || fmt.Sprint(out[0].Name, out[0].Shape, out[0].Data[1:]) != "twice[1 3] [4 6]" || out[1].Name != "sum" || len(out[1].Data) != 1 {
			t.Fatalf("line %s: %+v", i, out)
		}
	}
	if b.RequestCounts.Completed != 30 {
		t.Errorf("%+v", b.RequestCounts)
	}
}

// What cannot be used at all fails the batch, with the reason.
func TestInputsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.MaxLines, c.MaxLineBytes = 50, 300 }).start(nil)
	twice := requests(20, func(i int, line string) string {
		if i == 12 || i == 17 {
			return strings.Replace(line, fmt.Sprintf("c%d", i), "c4", 1)
		}
		return line
	})
	for name, c := range map[string]struct {
		text, code string
		line       int64
		faults     int
	}{
		"nothing":        {"", "empty_file", 0, 1},
		"blank":          {"\n \n", "empty_file", 0, 1},
		"CSV":            {"a,b,c\n1,2,3\n", "invalid_jsonl_file", 1, 1},
		"too many":       {requests(51, nil), "too_many_requests", 51, 1},
		"the same twice": {twice, "duplicate_custom_id", 13, 2},
	} {
		id := p.submit(t, c.text, nil)
		b := p.end(t, id, batch.Failed)
		if b.FailedAt == 0 || b.Errors == nil || len(b.Errors.Data) != c.faults || b.Errors.Data[0].Code != c.code || b.Errors.Data[0].Line != c.line || b.Errors.Data[0].Message == "" {
			t.Errorf("%s: %+v", name, b.Errors)
		}
	}
	long := requests(30, func(i int, line string) string {
		if i == 7 {
			return line + strings.Repeat(" ", 10) + strings.Repeat("x", 600_000)
		}
		return line
	})
	b := p.end(t, p.submit(t, long, nil), batch.Completed)
	if b.RequestCounts != (batch.Counts{Total: 30, Completed: 29, Failed: 1}) {
		t.Errorf("with a line that is too long: %+v", b.RequestCounts)
	}
	if a := parse(t, p.text(t, b.ErrorFile)); a[0].Error.Code != "too-large" || a[0].Error.Line != 8 {
		t.Errorf("%+v", a[0].Error)
	}
}

func TestWhatABatchMayNotSay(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.MaxFileBytes, c.MaxFilesPerTenant = 100_000, 2 }).start(nil)
	file := p.upload(t, requests(1, nil))
	good := func() batch.Spec { return batch.Spec{Endpoint: endpoint, InputFile: file} }
	for field, change := range map[string]func(*batch.Spec){
		"input_file_id":     func(s *batch.Spec) { s.InputFile = "" },
		"endpoint":          func(s *batch.Spec) { s.Endpoint = "/v1/chat/completions" },
		"model":             func(s *batch.Spec) { s.Endpoint = "/v1/models/none/predict" },
		"model_version":     func(s *batch.Spec) { s.Version = "9" },
		"input_url":         func(s *batch.Spec) { s.InputFile, s.InputURL = "", "file:///etc/passwd" },
		"output_url":        func(s *batch.Spec) { s.OutputURL = "file:///etc/passwd" },
		"completion_window": func(s *batch.Spec) { s.Window = "900h" },
		"metadata":          func(s *batch.Spec) { s.Metadata = map[string]string{"k": strings.Repeat("v", 513)} },
		"webhook":           func(s *batch.Spec) { s.Webhook = "https://example.com" },
		"max_rate":          func(s *batch.Spec) { s.MaxRate = -1 },
		"windows":           func(s *batch.Spec) { s.Windows = []string{"25:00-26:00"} },
		"lines_per_job":     func(s *batch.Spec) { s.LinesPerJob = -1 },
	} {
		spec := good()
		change(&spec)
		_, err := p.Create(t.Context(), tenant, spec, batch.Once{})
		var refused *job.Error
		if !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	spec := good()
	spec.InputFile = strings.Replace(file, "file-0", "file-1", 1)
	if _, err := p.Create(t.Context(), tenant, spec, batch.Once{}); !errors.As(err, new(*job.Error)) {
		t.Errorf("a file that is not there: %v", err)
	}
	_, err := p.PutFile(t.Context(), tenant, "a", batch.PurposeBatch, strings.NewReader(strings.Repeat("x", 100_001)))
	var refused *job.Error
	if !errors.As(err, &refused) || refused.Code != job.CodeTooLarge {
		t.Errorf("a file that is too large: %v", err)
	}
	if _, err := p.PutFile(t.Context(), tenant, "a", batch.PurposeBatch, strings.NewReader(strings.Repeat("x", 100_000))); err != nil {
		t.Errorf("a file that is just small enough: %v", err)
	}
	if _, err := p.PutFile(t.Context(), tenant, "a", batch.PurposeBatch, strings.NewReader("x")); err == nil {
		t.Error("a third file")
	}
	if _, err := p.PutFile(t.Context(), tenant, "a", "fine-tune", strings.NewReader("x")); err == nil {
		t.Error("another purpose")
	}
}

// Another tenant's batches and files are not there.
func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	id := p.submit(t, requests(20, spoil), nil)
	b := p.end(t, id, batch.Completed)
	ctx := t.Context()
	_, get := p.Get(ctx, "other", id)
	_, cancel := p.Cancel(ctx, "other", id)
	_, pause := p.Pause(ctx, "other", id)
	for name, err := range map[string]error{"get": get, "cancel": cancel, "pause": pause, "delete": p.DeleteFile(ctx, "other", b.InputFile)} {
		if !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, file := range []string{b.InputFile, b.OutputFile, b.ErrorFile} {
		_, info := p.File(ctx, "other", file)
		_, _, open := p.OpenFile(ctx, "other", file)
		if !errors.Is(info, job.ErrNotFound) || !errors.Is(open, job.ErrNotFound) {
			t.Errorf("%s: %v, %v", file, info, open)
		}
	}
	for lines, err := range p.Follow(ctx, "other", id, batch.Results, 0) {
		if !errors.Is(err, job.ErrNotFound) || len(lines.Data) > 0 {
			t.Errorf("follow: %q, %v", lines.Data, err)
		}
	}
	list, _, err := p.List(ctx, "other", "", 10)
	files, _, err2 := p.Files(ctx, "other", "", 10)
	if err != nil || err2 != nil || len(list) != 0 || len(files) != 0 {
		t.Errorf("%v, %v, %v, %v", list, files, err, err2)
	}
	if _, err := p.Create(ctx, "other", batch.Spec{Endpoint: endpoint, InputFile: b.InputFile}, batch.Once{}); err == nil {
		t.Error("another tenant's file is an input")
	}
	for _, strange := range []string{"", "batch_", "batch_zz", id + "0", "../" + id, tenant + "/" + id, "file-x"} {
		if _, err := p.Get(ctx, tenant, strange); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("get %q: %v", strange, err)
		}
		if _, err := p.File(ctx, tenant, strange); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("file %q: %v", strange, err)
		}
	}
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.Runners = 0 }).start(nil)
	var ids, files []string
	for range 5 {
		ids = append(ids, p.submit(t, requests(1, nil), nil))
		b, err := p.Get(t.Context(), tenant, ids[len(ids)-1])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b.InputFile)
	}
	slices.Reverse(ids)
	slices.Reverse(files)
	var gotIDs, gotFiles []string
	for more, after := true, ""; more; {
		var list []batch.Batch
		var err error
		if list, more, err = p.List(t.Context(), tenant, after, 2); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			after = list[i].ID
			gotIDs = append(gotIDs, after)
		}
	}
	for more, after := true, ""; more; {
		var list []batch.File
		var err error
		if list, more, err = p.Files(t.Context(), tenant, after, 2); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			after = list[i].ID
			gotFiles = append(gotFiles, after)
		}
	}
	if !slices.Equal(gotIDs, ids) || !slices.Equal(gotFiles, files) {
		t.Errorf("%v, expected %v; %v, expected %v", gotIDs, ids, gotFiles, files)
	}
	if err := p.DeleteFile(t.Context(), tenant, files[0]); !errors.Is(err, batch.ErrInUse) {
		t.Errorf("a file that a batch needs is deleted: %v", err)
	}
	b, err := p.Cancel(t.Context(), tenant, ids[0])
	if err != nil || b.Status != batch.Cancelled || b.CancelledAt == 0 {
		t.Errorf("nobody had begun: %+v, %v", b, err)
	}
	if _, err := p.Cancel(t.Context(), tenant, ids[0]); !errors.Is(err, batch.ErrFinished) {
		t.Errorf("canceled twice: %v", err)
	}
	if err := p.DeleteFile(t.Context(), tenant, files[0]); err != nil {
		t.Errorf("a file that no batch needs: %v", err)
	}
	if _, err := p.File(t.Context(), tenant, files[0]); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("a file that was deleted: %v", err)
	}
}

// What is over is deleted, with all that belongs to it.
func TestRetention(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.Retention, c.SweepEvery = time.Second, 50*time.Millisecond }).start(nil)
	id := p.submit(t, requests(50, spoil), func(s *batch.Spec) { s.Window = "1s" })
	idle := p.upload(t, "x")
	eventually(t, "the batch is deleted", func() bool {
		_, err := p.Get(t.Context(), tenant, id)
		return errors.Is(err, job.ErrNotFound)
	})
	eventually(t, "the files are deleted", func() bool {
		left, _, err := p.Files(t.Context(), tenant, "", 10)
		return err == nil && len(left) == 0
	})
	objects, err := p.q.Files("files").List(t.Context(), "")
	if err != nil || len(objects) != 0 {
		t.Errorf("%v are left, %v", objects, err)
	}
	if _, _, err := p.OpenFile(t.Context(), tenant, idle); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
