package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/batch"
)

func TestBatchOfAFile(t *testing.T) {
	r := newBatchRig(t)
	const n = 600
	text := requestLines(n, func(i int) bool { return i%100 == 7 }, nil)
	file := r.upload(t, text)
	if a := r.do(t, "GET", "/v1/files/"+file, ""); a.str("filename") != "requests.jsonl" || a.str("purpose") != "batch" || a.doc["bytes"] != float64(len(text)) || a.str("status") != "processed" {
		t.Errorf("the file is %s", a.body)
	}
	if a := r.do(t, "GET", "/v1/files/"+file+"/content", ""); a.body != text || a.header.Get("Content-Length") != fmt.Sprint(len(text)) {
		t.Errorf("the file has %d bytes, %d were sent", len(a.body), len(text))
	}
	id := r.create(t, file, `,"metadata":{"run":"7"},"ordered":true`)
	b, results := r.ended(t, id)
	counts, _ := b.doc["request_counts"].(map[string]any)
	if b.str("status") != "completed" || counts["total"] != float64(n) || counts["completed"] != float64(n-6) || counts["failed"] != 6.0 {
		t.Fatalf("the batch is %s", b.body)
	}
	if b.doc["metadata"].(map[string]any)["run"] != "7" || b.str("model_version") != "2" {
		t.Errorf("the batch is %s", b.body)
	}
	ids := customIDs(t, results)
	if len(ids) != n-6 || ids[0] != "row-0" || ids[n-7] != fmt.Sprintf("row-%d", n-1) || !strings.Contains(results, `"prediction":[0.25,0.75]`) {
		t.Errorf("%d results: %.300s", len(ids), results)
	}
	failed := r.do(t, "GET", "/v1/batches/"+id+"/errors", "").body
	if ids := customIDs(t, failed); len(ids) != 6 || !slices.Contains(ids, "row-107") || !strings.Contains(failed, `"line":108`) {
		t.Errorf("the errors are %s", failed)
	}
	for output, want := range map[string]string{b.str("output_file_id"): results, b.str("error_file_id"): failed} {
		if a := r.do(t, "GET", "/v1/files/"+output+"/content", ""); a.status != 200 || a.body != want {
			t.Errorf("the file %s has %d bytes, not %d", output, len(a.body), len(want))
		}
		if a := r.do(t, "GET", "/v1/files/"+output, ""); a.str("purpose") != "batch_output" {
			t.Errorf("the file is %s", a.body)
		}
	}
	r.do(t, "POST", "/v1/batches/"+id+"/cancel", "").problem(t, 409, "batch-finished")
	if a := r.do(t, "DELETE", "/v1/files/"+file, ""); a.status != 200 || a.doc["deleted"] != true || a.str("id") != file {
		t.Errorf("deleting answers %s", a.body)
	}
	r.do(t, "GET", "/v1/files/"+file, "").problem(t, 404, "unknown-file")
	r.do(t, "DELETE", "/v1/files/"+file, "").problem(t, 404, "unknown-file")
}

// The lines may come with the batch, in one call: as requests, or plain.
func TestBatchOfLinesInTheBody(t *testing.T) {
	r := newBatchRig(t)
	for _, tc := range []struct{ query, body string }{
		{"?endpoint=/v1/models/digits/predict&ordered=true", requestLines(3, nil, nil)},
		{"?model=digits&model_version=1&completion_window=2h&max_rate=1000&lines_per_job=2&plain=true&ordered=true", "[1,2,3,4]\n{\"input\":[[1,2,3,4]]}\n\n[1,2,3,4]"},
	} {
		a := r.do(t, "POST", "/v1/batches"+tc.query, tc.body, "Content-Type", "application/x-ndjson")
		if a.status != 200 || a.header.Get("Location") != "/v1/batches/"+a.str("id") {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		b, results := r.ended(t, a.str("id"))
		want := []string{"row-0", "row-1", "row-2"}
		if strings.Contains(tc.query, "plain") {
			want = []string{"1", "2", "4"}
			if b.str("model_version") != "1" || b.str("completion_window") != "2h" || b.doc["max_rate"] != 1000.0 {
				t.Errorf("the batch is %s", b.body)
			}
		}
		if got := customIDs(t, results); b.str("status") != "completed" || !slices.Equal(got, want) {
			t.Errorf("%s gives %q, expected %q: %s", tc.query, got, want, b.body)
		}
	}
	for query, code := range map[string]string{
		"?model=nobody": "unknown-model", "?endpoint=/v1/jobs": "invalid", "": "unknown-model", "?color=red": "malformed",
		"?model=digits&max_rate=fast": "malformed", "?model=digits&completion_window=soon": "invalid", "?model=digits&windows=25:00-26:00": "invalid",
		"?model=digits&output_url=file:///etc/x": "invalid",
	} {
		a := r.do(t, "POST", "/v1/batches"+query, oneRow, "Content-Type", "application/x-ndjson")
		if a.status < 400 || a.str("type") != "/problems/"+code {
			t.Errorf("%q: status %d, %s", query, a.status, a.body)
		}
	}
	// What was kept for a batch that was refused is gone again.
	if a := r.do(t, "GET", "/v1/files", ""); strings.Count(a.body, `"object":"file"`) != 2 {
		t.Errorf("the files are %s", a.body)
	}
}

// Making a batch can be repeated under a key, with the lines in the body too; then the lines that came again are not kept.
func TestABatchIsMadeOnceUnderItsKey(t *testing.T) {
	r := newBatchRig(t)
	file := r.upload(t, oneRow)
	for _, tc := range []struct{ path, body, other, media string }{
		{"/v1/batches", `{"model":"digits","input_file_id":"` + file + `"}`, `{"model":"digits","plain":true,"input_file_id":"` + file + `"}`, "application/json"},
		{"/v1/batches?model=digits&plain=true", "[1,2,3,4]\n", "[4,3,2,1]\n", "application/x-ndjson"},
	} {
		header := []string{"Content-Type", tc.media, "Idempotency-Key", tc.media}
		first, again := r.do(t, "POST", tc.path, tc.body, header...), r.do(t, "POST", tc.path, tc.body, header...)
		if first.status != 200 || again.status != 200 || first.str("id") == "" || first.str("id") != again.str("id") {
			t.Errorf("%s and %s", first.body, again.body)
		}
		r.do(t, "POST", tc.path, tc.other, header...).problem(t, 422, "key-reused")
		r.ended(t, first.str("id"))
	}
	r.do(t, "POST", "/v1/batches", `{"model":"digits"}`, "Idempotency-Key", strings.Repeat("k", 256)).problem(t, 400, "malformed")
	if a := r.do(t, "GET", "/v1/batches", ""); strings.Count(a.body, `"object":"batch"`) != 2 {
		t.Errorf("the batches are %s", a.body)
	}
	if a := r.do(t, "GET", "/v1/files", ""); strings.Count(a.body, `"object":"file"`) != 2 {
		t.Errorf("the files are %s", a.body)
	}
}

func TestWhatABatchIsNot(t *testing.T) {
	r := newIdleBatchRig(t, nil, nil)
	file := r.upload(t, oneRow)
	for body, want := range map[string]struct {
		status      int
		code, field string
	}{
		``:                                 {400, "malformed", ""},
		`[]`:                               {400, "malformed", ""},
		`{"endpoint":7}`:                   {400, "malformed", "endpoint"},
		`{"color":"red"}`:                  {400, "malformed", "color"},
		`{} {}`:                            {400, "malformed", ""},
		`{"model":"digits"}`:               {422, "invalid", "input_file_id"},
		`{"input_file_id":"` + file + `"}`: {404, "unknown-model", "model"},
		`{"model":"digits","input_file_id":"file-0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"}`:                      {422, "invalid", "input_file_id"},
		`{"model":"digits","input_file_id":"` + file + `","endpoint":"/v1/models/text/predict"}`:              {422, "invalid", "endpoint"},
		`{"model":"digits","input_url":"file:///etc/passwd"}`:                                                 {422, "invalid", "input_url"},
		`{"model":"digits","input_file_id":"` + file + `","completion_window":"9000h"}`:                       {422, "invalid", "completion_window"},
		`{"model":"digits","input_file_id":"` + file + `","webhook":"http://127.0.0.1/"}`:                     {422, "invalid", "webhook"},
		`{"model":"digits","input_file_id":"` + file + `","metadata":{"` + strings.Repeat("k", 65) + `":""}}`: {422, "invalid", "metadata"},
		`{"model":"digits","model_version":"9","input_file_id":"` + file + `"}`:                               {404, "unknown-model", "model_version"},
	} {
		a := r.do(t, "POST", "/v1/batches", body, "Content-Type", "application/json")
		a.problem(t, want.status, want.code)
		if a.str("field") != want.field {
			t.Errorf("%s: the field is %q, not %q", body, a.str("field"), want.field)
		}
	}
	r.do(t, "POST", "/v1/batches", "x", "Content-Type", "text/csv").problem(t, 415, "unsupported-media-type")
	const none = "batch_0198f3c27b1e7c339d5f3c6b7a2f8e12"
	for _, id := range []string{none, "x"} {
		for _, rt := range []string{"GET ", "POST /cancel", "POST /pause", "POST /resume", "GET /results", "GET /errors", "GET /results?follow=true"} {
			method, path, _ := strings.Cut(rt, " ")
			r.do(t, method, "/v1/batches/"+id+path, "").problem(t, 404, "unknown-batch")
		}
	}
	for path, field := range map[string]string{
		"/v1/batches?limit=0": "limit", "/v1/batches?limit=101": "limit", "/v1/files?limit=x": "limit", "/v1/files?order=asc": "order",
		"/v1/batches/" + none + "/results?from=-1": "from", "/v1/batches/" + none + "/errors?follow=perhaps": "follow",
	} {
		if a := r.do(t, "GET", path, ""); a.status != 400 || a.str("field") != field {
			t.Errorf("%s: status %d, %s", path, a.status, a.body)
		}
	}
	// null is what is not there.
	if a := r.do(t, "POST", "/v1/batches", `{"model":"digits","input_file_id":"`+file+`","metadata":null}`, "Content-Type", "application/json"); a.status != 200 {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// Results come while the batch runs, from the line that is asked for; they end with the batch.
func TestResultsWhileABatchRuns(t *testing.T) {
	r := newBatchRig(t)
	id := r.create(t, r.upload(t, requestLines(6, nil, func(i int) bool { return i == 4 })), `,"lines_per_job":2,"ordered":true`)
	resp := r.openStream(t, "/v1/batches/"+id+"/results?follow=true&from=1")
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	next := func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return customIDs(t, line)[0]
	}
	if got := []string{next(), next(), next()}; !slices.Equal(got, []string{"row-1", "row-2", "row-3"}) {
		t.Fatalf("the first lines are %q", got)
	}
	if a := r.do(t, "GET", "/v1/batches/"+id, ""); a.str("status") != "in_progress" || a.doc["output_file_id"] != nil {
		t.Errorf("the batch is %s", a.body)
	}
	// Without follow the answer ends, although the batch goes on.
	if got := customIDs(t, r.do(t, "GET", "/v1/batches/"+id+"/results?from=2", "").body); !slices.Equal(got, []string{"row-2", "row-3"}) {
		t.Errorf("so far there are %q", got)
	}
	r.do(t, "DELETE", "/v1/files/"+r.do(t, "GET", "/v1/batches/"+id, "").str("input_file_id"), "").problem(t, 409, "file-in-use")
	r.open()
	if got := []string{next(), next()}; !slices.Equal(got, []string{"row-4", "row-5"}) {
		t.Errorf("the last lines are %q", got)
	}
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Errorf("then there is %v", err)
	}
	if a := r.do(t, "GET", "/v1/batches/"+id+"/results?from=6", ""); a.status != 200 || a.body != "" {
		t.Errorf("behind the last line: %s", a.body)
	}
}

// A server that goes down cuts the answer off, so that nobody takes it for the whole.
func TestFollowersOfAServerThatGoesDown(t *testing.T) {
	r := newBatchRig(t)
	id := r.create(t, r.upload(t, requestLines(2, nil, func(i int) bool { return i == 1 })), `,"lines_per_job":1,"ordered":true`)
	resp := r.openStream(t, "/v1/batches/"+id+"/results?follow=true")
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.jobs.Close()
	if rest, err := io.ReadAll(lines); err == nil {
		t.Errorf("the answer ends as if it were whole, with %q", rest)
	}
	r.do(t, "GET", "/v1/batches/"+id+"/results", "").problem(t, 503, "unavailable")
}

func TestStatesOfABatch(t *testing.T) {
	r := newIdleBatchRig(t, nil, nil)
	file := r.upload(t, requestLines(2, nil, nil))
	first := r.create(t, file, "")
	if a := r.do(t, "POST", "/v1/batches/"+first+"/pause", ""); a.status != 200 || a.doc["paused"] != true || a.str("status") != "validating" {
		t.Errorf("paused it is %s", a.body)
	}
	if a := r.do(t, "POST", "/v1/batches/"+first+"/resume", "{}"); a.status != 200 || a.doc["paused"] != nil {
		t.Errorf("resumed it is %s", a.body)
	}
	if a := r.do(t, "POST", "/v1/batches/"+first+"/cancel", ""); a.status != 200 || a.str("status") != "cancelled" || a.doc["cancelled_at"] == nil {
		t.Errorf("canceled it is %s", a.body)
	}
	for _, act := range []string{"cancel", "pause", "resume"} {
		r.do(t, "POST", "/v1/batches/"+first+"/"+act, "").problem(t, 409, "batch-finished")
	}
	second := r.create(t, file, "")
	r.begin()
	if b, results := r.ended(t, second); b.str("status") != "completed" || len(customIDs(t, results)) != 2 {
		t.Errorf("it is %s", b.body)
	}
}

func TestPagesOfBatchesAndFiles(t *testing.T) {
	r := newIdleBatchRig(t, nil, nil)
	if a := r.do(t, "GET", "/v1/batches", ""); a.status != 200 || !strings.HasPrefix(a.body, `{"object":"list","data":[],"has_more":false}`) {
		t.Errorf("without any: %s", a.body)
	}
	var files, batches []string
	for range 5 {
		files = append(files, r.upload(t, oneRow))
		batches = append(batches, r.create(t, files[len(files)-1], ""))
	}
	slices.Reverse(files)
	slices.Reverse(batches)
	for path, want := range map[string][]string{"/v1/files": files, "/v1/batches": batches} {
		var got []string
		for after := ""; ; {
			a := r.do(t, "GET", path+"?limit=2"+after, "")
			data, _ := a.doc["data"].([]any)
			for _, one := range data {
				got = append(got, one.(map[string]any)["id"].(string))
			}
			if a.doc["has_more"] != true {
				break
			}
			if len(data) != 2 || a.str("last_id") != got[len(got)-1] {
				t.Fatalf("a page of %s is %s", path, a.body)
			}
			after = "&after=" + a.str("last_id")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s lists %q, expected %q", path, got, want)
		}
	}
	if a := r.do(t, "GET", "/v1/files?purpose=fine-tune", ""); a.status != 200 || strings.Contains(a.body, "file-") {
		t.Errorf("of another purpose: %s", a.body)
	}
}

// A batch is its tenant's: nobody else sees it, its files or its lines, and a key that is not for a model makes none for it.
func TestBatchesOfAnotherTenant(t *testing.T) {
	who := newCallers(t)
	r := newIdleBatchRig(t, nil, func(_ *config, d *deps) { d.Auth = who.methods })
	acme, other := as(who.key(t, auth.Key{Tenant: "acme"})), as(who.key(t, auth.Key{Tenant: "other"}))
	file := r.upload(t, requestLines(2, nil, nil), acme...)
	id := r.create(t, file, "", acme...)
	for _, rt := range []string{"GET ", "POST /cancel", "POST /pause", "POST /resume", "GET /results", "GET /errors"} {
		method, path, _ := strings.Cut(rt, " ")
		r.do(t, method, "/v1/batches/"+id+path, "", other...).problem(t, 404, "unknown-batch")
	}
	for _, path := range []string{file, file + "/content", batch.OutputID(id, batch.Results), batch.OutputID(id, batch.Errors) + "/content"} {
		r.do(t, "GET", "/v1/files/"+path, "", other...).problem(t, 404, "unknown-file")
	}
	r.do(t, "DELETE", "/v1/files/"+file, "", other...).problem(t, 404, "unknown-file")
	r.do(t, "POST", "/v1/batches", `{"model":"digits","input_file_id":"`+file+`"}`, other...).problem(t, 422, "invalid")
	for _, path := range []string{"/v1/files", "/v1/batches"} {
		if a := r.do(t, "GET", path, "", other...); a.status != 200 || strings.Contains(a.body, "_0") || strings.Contains(a.body, "file-") {
			t.Errorf("%s shows %s", path, a.body)
		}
	}
	limited := as(who.key(t, auth.Key{Tenant: "acme", Models: []string{"text"}}))
	for _, spec := range []string{`"model":"digits"`, `"endpoint":"/v1/models/digits/predict"`, `"endpoint":"/v1/models/digits/versions/1/jobs"`} {
		r.do(t, "POST", "/v1/batches", `{`+spec+`,"input_file_id":"`+file+`"}`, limited...).problem(t, 404, "unknown-model")
	}
}

// A batch counts as one job against its caller's rate.
func TestRateOfBatches(t *testing.T) {
	who := newCallers(t)
	r := newIdleBatchRig(t, nil, func(_ *config, d *deps) {
		d.Auth = who.methods
		limiter, err := auth.NewLimiter(auth.Rate{PerSecond: 0.001, Burst: 1})
		if err != nil {
			t.Fatal(err)
		}
		d.Limiter = limiter
	})
	key := as(who.key(t, auth.Key{Tenant: "acme"}))
	file := r.upload(t, oneRow, key...)
	r.create(t, file, "", key...)
	a := r.do(t, "POST", "/v1/batches", `{"model":"digits","input_file_id":"`+file+`"}`, key...)
	a.problem(t, 429, "rate-limited")
	if a.header.Get("Retry-After") == "" || a.header.Get("RateLimit") == "" {
		t.Errorf("headers %v", a.header)
	}
}

func TestLimitsOfBatches(t *testing.T) {
	r := newIdleBatchRig(t, func(c *batch.Config) { c.MaxBatchesPerTenant, c.MaxFilesPerTenant = 1, 2 }, nil)
	first := r.upload(t, oneRow)
	id := r.create(t, first, "")
	a := r.do(t, "POST", "/v1/batches", `{"model":"digits","input_file_id":"`+first+`"}`)
	a.problem(t, 429, "too-many-batches")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("headers %v", a.header)
	}
	// The lines that came with it are not kept.
	r.do(t, "POST", "/v1/batches?model=digits", oneRow, "Content-Type", "application/x-ndjson").problem(t, 429, "too-many-batches")
	r.upload(t, oneRow)
	body, media := form(t, "purpose", "batch", "file=a", oneRow)
	r.do(t, "POST", "/v1/files", body, "Content-Type", media).problem(t, 429, "too-many-batches")
	if a := r.do(t, "POST", "/v1/batches/"+id+"/cancel", ""); a.status != 200 {
		t.Fatal(a.body)
	}
	r.begin()
	r.ended(t, id)
	for r.do(t, "POST", "/v1/batches", `{"model":"digits","input_file_id":"`+first+`"}`).status != 200 {
		// its message is removed a moment after its end
	}
}

// openStream sends a request whose answer is read as it comes.
func (r *rig) openStream(t testing.TB, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.listen(t)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
