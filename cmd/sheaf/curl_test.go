package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/queue"
)

// The commands of docs/curl.md are run one after the other in one shell, as a reader would, and answered as the page says;
// and no route is left out.
func TestCurl(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(repoPath("docs", "curl.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	url, nats := p.find(`HTTP API +(\S+)`), p.find(`NATS +(nats:\S+)`)
	p.find("Ctrl-C stops it")
	buryForCurl(t, nats)

	examples := curlExamples(strings.ReplaceAll(string(page), "http://localhost:8080", url))
	dir := runCurl(t, examples)
	for i, e := range examples {
		out, err := os.ReadFile(outputOf(dir, i))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.matches(string(out)); err != nil {
			t.Errorf("docs/curl.md, line %d:\n%s--- answers\n%s\n--- which is not what the page says: %v", e.line, e.command, out, err)
		}
	}
	checkCurlRoutes(t, url, string(page))
}

// buryForCurl makes two dead letters, which curl cannot do.
func buryForCurl(t *testing.T, nats string) {
	t.Helper()
	for range 2 {
		pixels := strings.TrimSuffix(strings.Repeat("0,", 64), ",")
		testserver.Publish(t, nats, "sheaf.dead.interactive.digits.default", map[string]string{
			queue.HeaderDeadSubject: "sheaf.interactive.digits.default", queue.HeaderDeadReason: "exhausted: it died",
			queue.HeaderDeadLane: "interactive", queue.HeaderDeadID: uuid.NewString(), "Content-Type": "application/json",
		}, []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,64],"data":[`+pixels+`]}]}`))
	}
}

// curlExample is a command of the page, and what the page says that it answers.
type curlExample struct {
	line         int
	command      string
	kind, answer string // "json", "text" or ""
}

// curlExamples takes the fenced blocks out of the page.
func curlExamples(page string) []curlExample {
	var examples []curlExample
	kind, block, first := "", "", 0
	for i, line := range strings.SplitAfter(page, "\n") {
		fence, ok := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case !ok && kind != "":
			block += line
		case ok && kind == "":
			kind, block, first = fence, "", i+1
		case ok:
			if kind == "sh" {
				examples = append(examples, curlExample{line: first, command: block})
			} else if last := len(examples) - 1; last >= 0 {
				examples[last].kind, examples[last].answer = kind, block
			}
			kind = ""
		}
	}
	return examples
}

func outputOf(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i)) }

// runCurl runs the commands in one shell, which ends at the first that fails, and returns where their output is.
func runCurl(t *testing.T, examples []curlExample) string {
	t.Helper()
	dir := t.TempDir()
	script := "set -eu -o pipefail\n"
	for i, e := range examples {
		script += fmt.Sprintf("# line %d\n{\n%s} >'%s'\n", e.line, strings.ReplaceAll(e.command, "curl ", "curl --max-time 60 "), outputOf(dir, i))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-x")
	cmd.Dir, cmd.Stdin = repoPath(), strings.NewReader(script)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the commands of docs/curl.md: %v\n%s", err, said[max(0, len(said)-4000):])
	}
	return dir
}

func (e *curlExample) matches(out string) error {
	switch e.kind {
	case "":
		return nil
	case "text":
		return matchesText(e.answer, out)
	case "json":
	default:
		return fmt.Errorf("the answer is marked as %q: expected json or text", e.kind)
	}
	want, err := values(e.answer)
	if err != nil {
		return fmt.Errorf("the page has no JSON: %w", err)
	}
	got, err := values(out)
	if err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	return matchesJSON("", "", want, got)
}

// values reads one value of JSON after the other.
func values(text string) ([]any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	var list []any
	for {
		var v any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, v)
	}
}

// matchesText looks for the lines of want, in their order, among those of got.
func matchesText(want, got string) error {
	lines := strings.Split(strings.ReplaceAll(got, "\r", ""), "\n")
	for line := range strings.Lines(want) {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", ".*") + "$")
		i := slices.IndexFunc(lines, pattern.MatchString)
		if i < 0 {
			return fmt.Errorf("there is no line %q after those before it", line)
		}
		lines = lines[i+1:]
	}
	return nil
}

// matchesJSON compares an answer with what the page has. Members that the page leaves out do not count; numbers may differ,
// except for the status; … matches whatever there is, and at the end of an array however much there is.
func matchesJSON(at, name string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		for name, member := range want {
			have, ok := got[name]
			if !ok {
				return fmt.Errorf("%s.%s is missing", at, name)
			}
			if err := matchesJSON(at+"."+name, name, member, have); err != nil {
				return err
			}
		}
		return nil
	case []any:
		got, ok := got.([]any)
		if !ok {
			return fmt.Errorf("%s is no array", at)
		}
		open := len(want) > 0 && want[len(want)-1] == "…"
		if open {
			want = want[:len(want)-1]
		}
		if len(got) < len(want) || len(got) > len(want) && !open {
			return fmt.Errorf("%s has %d elements, not %d", at, len(got), len(want))
		}
		for i := range want {
			if err := matchesJSON(fmt.Sprintf("%s[%d]", at, i), "", want[i], got[i]); err != nil {
				return err
			}
		}
		return nil
	case float64:
		if have, ok := got.(float64); ok && (name != "status" || have == want) {
			return nil
		}
	case string:
		if have, ok := got.(string); ok && matchesText(want, have) == nil {
			return nil
		}
	default:
		if want == got {
			return nil
		}
	}
	return fmt.Errorf("%s is %v, not %v", at, got, want)
}

// checkCurlRoutes compares the routes that the page names with those that the server lists, and with those that it has
// answered: no more, no fewer, and all of them called.
func checkCurlRoutes(t *testing.T, url, page string) {
	t.Helper()
	_, body := get(t, url+"/")
	var index struct {
		Routes []struct{ Method, Path string } `json:"routes"`
	}
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	_, metrics := get(t, url+"/metrics")
	_, page, _ = strings.Cut(page, "## ")
	named := map[string]bool{"GET /": true}
	for _, m := range regexp.MustCompile("`((?:GET|POST|PUT|PATCH|DELETE) /[^` ]*)`").FindAllStringSubmatch(page, -1) {
		named[m[1]] = false
	}
	for _, r := range index.Routes {
		route := r.Method + " " + r.Path
		if _, ok := named[route]; !ok {
			t.Errorf("docs/curl.md says nothing of %s, which GET / lists: add a section with a command", route)
			continue
		}
		named[route] = true
		if !strings.Contains(string(metrics), fmt.Sprintf("sheaf_http_requests_total{method=%q,route=%q,", r.Method, r.Path)) {
			t.Errorf("docs/curl.md names %s, but none of its commands calls it", route)
		}
	}
	for route, listed := range named {
		if !listed && route != "GET /" {
			t.Errorf("docs/curl.md names %s, which GET / does not list", route)
		}
	}
}
