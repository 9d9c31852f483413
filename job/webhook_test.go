package job_test

import (
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestCheckWebhook(t *testing.T) {
	for _, url := range []string{
		"", "https://example.com", "http://example.com/", "HTTPS://example.com:8443/a/b?c=d&e=%20", "https://[2001:db8::1]:443/x",
		"https://" + strings.Repeat("a", job.MaxWebhookBytes-len("https://")),
	} {
		if err := job.CheckWebhook("webhook", url); err != nil {
			t.Errorf("%.60q is refused: %v", url, err)
		}
	}
	for url, detail := range map[string]string{
		"example.com/x":              "absolute URL",
		"/path":                      "absolute URL",
		"https:example.com":          "absolute URL",
		"https://":                   "absolute URL",
		"https://:443/":              "absolute URL",
		"ftp://example.com":          "absolute URL",
		"file:///etc/passwd":         "absolute URL",
		"https://a b/":               "ASCII",
		"https://exämple.com":        "ASCII",
		"https://a/\r\nX: y":         "ASCII",
		"https://user:secret@a/":     "user and a password",
		"https://example.com/#x":     "fragment",
		"https://example.com:0/":     "port",
		"https://example.com:/":      "port",
		"https://example.com:65536/": "port",
		"https://" + strings.Repeat("a", job.MaxWebhookBytes): "at most 2048 bytes",
	} {
		err := job.CheckWebhook("webhook", url)
		if err == nil || err.Code != job.CodeInvalid || err.Field != "webhook" || !strings.Contains(err.Detail, detail) {
			t.Errorf("%.60q: got %v, expected %q", url, err, detail)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}

// A job that cannot be read says who is to be told nevertheless.
func TestWebhookOfBrokenJob(t *testing.T) {
	const url = "https://hooks.example/x"
	broken := job.Job{ID: job.ID{1}, Webhook: url, Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{2}, Data: []byte{1}}}}
	got, err := job.DecodeMessage(sheafEnvelope(broken), job.DefaultLimits())
	if err != nil || len(got) != 1 || got[0].Err == nil || got[0].Job.Webhook != url {
		t.Errorf("sheaf: got %+v, %v", got, err)
	}
	got, err = job.DecodeMessage(envelope([]byte(`{"inputs":`), job.HeaderContentType, job.ContentTypeJSON,
		job.HeaderID, job.ID{1}.String(), job.HeaderWebhook, url), job.DefaultLimits())
	if err != nil || len(got) != 1 || got[0].Err == nil || got[0].Job.Webhook != url {
		t.Errorf("JSON: got %+v, %v", got, err)
	}
}

func TestWebhookHeader(t *testing.T) {
	body := []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}`)
	decode := func(url string) job.Decoded {
		got, err := job.DecodeMessage(envelope(body, job.HeaderContentType, job.ContentTypeJSON,
			job.HeaderID, job.ID{1}.String(), job.HeaderWebhook, url), job.DefaultLimits())
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		return got[0]
	}
	if d := decode("http://a/b"); d.Err != nil || d.Job.Webhook != "http://a/b" {
		t.Errorf("got %+v", d)
	}
	if d := decode("gopher://a/b"); d.Err == nil || d.Err.Field != job.HeaderWebhook || d.Job.Webhook != "" {
		t.Errorf("got %+v", d)
	}
}
