package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
)

// A batch reads its requests from where the server lets it, writes its answers there, and is refused any other place.
func TestBatchOfAnObject(t *testing.T) {
	s3 := testserver.StartS3(t, "lake")
	t.Setenv("AWS_ACCESS_KEY_ID", s3.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.Secret)
	rowsFile(t, s3.Path("lake", "rows.jsonl"), 500)
	text, err := os.ReadFile(s3.Path("lake", "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`"pixels"`, `"input"`).Replace(string(text))
	var lines strings.Builder
	for line := range strings.Lines(plain) {
		_, list, _ := strings.Cut(line, `"input":`)
		lines.WriteString(strings.TrimSuffix(strings.TrimSpace(list), "}") + "\n")
	}
	if err := os.WriteFile(s3.Path("lake", "rows.jsonl"), []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(s3.URL("lake", "x"), "?")
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--batch-urls", "s3://lake/?"+query)
	url := p.find(`HTTP API +(http://\S+)`)
	p.find("Ctrl-C stops it")
	submit := func(body string) (int, map[string]any) {
		code, answer := post(t, url+"/v1/batches", json.RawMessage(body))
		var v map[string]any
		if err := json.Unmarshal(answer, &v); err != nil {
			t.Fatalf("%d %s", code, answer)
		}
		return code, v
	}
	code, b := submit(`{"model":"digits","plain":true,"input_url":"s3://lake/rows.jsonl","output_url":"s3://lake/out.jsonl"}`)
	if code/100 != 2 {
		t.Fatalf("%d %v", code, b)
	}
	stdout, stderr, exit := runToEnd(t, "", "batch", "results", b["id"].(string), "--follow", "--server", url)
	if exit != 0 || strings.Count(stdout, "\n") != 500 {
		t.Errorf("exit %d, %d lines: %s", exit, strings.Count(stdout, "\n"), stderr)
	}
	eventually(t, func() error {
		_, err := os.Stat(s3.Path("lake", "out.jsonl"))
		return err
	})
	if out, err := os.ReadFile(s3.Path("lake", "out.jsonl")); err != nil || strings.Count(string(out), "\n") != 500 {
		t.Errorf("%d bytes were uploaded, %v", len(out), err)
	}
	for _, place := range []string{"s3://other/out.jsonl", "s3://lake/out.jsonl?endpoint=http://127.0.0.1:1", "file:///etc/x"} {
		if code, b := submit(`{"model":"digits","plain":true,"input_url":"s3://lake/rows.jsonl","output_url":"` + place + `"}`); code/100 != 4 {
			t.Errorf("%s was taken: %v", place, b)
		}
	}
}
