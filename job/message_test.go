package job_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

const (
	uuidA = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"
	uuidB = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e12"

	traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

func mustID(t *testing.T, s string) job.ID {
	t.Helper()
	id, err := job.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const requestX = `{"id":"mine","model_name":"digits","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`

func TestMessageOfOneRequest(t *testing.T) {
	deadline := time.Date(2025, 6, 15, 12, 0, 0, 0, time.UTC)
	for _, when := range []string{"2025-06-15T12:00:00Z", "2025-06-15T14:00:00.000+02:00", "1749988800000"} {
		env := envelope(
			[]byte(requestX), job.HeaderContentType, "Application/JSON; charset=utf-8", job.HeaderID, uuidA,
			job.HeaderDeadline, when, job.HeaderReply, "_INBOX.x.1", job.HeaderModelVersion, "7", job.HeaderTraceParent, traceParent,
		)
		got, err := job.DecodeMessage(env, job.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		want := job.Decoded{Job: job.Job{
			ID: mustID(t, uuidA), Lane: job.Bulk, Tenant: "acme", Model: "digits", Version: "7", RequestID: "mine",
			Inputs:    []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, 2}, Data: le(t, float32(1), float32(2))}},
			CreatedAt: env.Published, Deadline: deadline, Reply: "_INBOX.x.1", TraceParent: traceParent,
		}}
		if d := diff([]job.Decoded{want}, got); d != "" {
			t.Errorf("deadline %s (-want +got):\n%s", when, d)
		}
	}
}

func TestMessageID(t *testing.T) {
	body := func(id string) []byte { return []byte(`{"id":"` + id + `"}`) }
	tests := []struct {
		name, header string
		body         []byte
		want         string // empty: no ID
	}{
		{"header", uuidA, body("mine"), uuidA},
		{"header before request", uuidA, body(uuidB), uuidA},
		{"header in capitals", strings.ToUpper(uuidA), body(""), uuidA},
		{"request", "", body(uuidB), uuidB},
		{"request where the header is no UUID", "msg-1", body(uuidB), uuidB},
		{"request that is refused later", "", []byte(`{"id":"` + uuidB + `","inputs":1}`), uuidB},
		{"neither", "", body("mine"), ""},
		{"header of another form", "{" + uuidA + "}", body(""), ""},
		{"nil UUID", "00000000-0000-0000-0000-000000000000", body(""), ""},
		{"request not readable", "", []byte(`{"id":"`), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := envelope(tt.body, job.HeaderContentType, job.ContentTypeJSON, job.HeaderID, tt.header)
			got, err := job.DecodeMessage(env, job.DefaultLimits())
			if tt.want == "" {
				if err == nil || len(got) != 0 {
					t.Fatalf("got %+v, %v; want an error and no job", got, err)
				}
				return
			}
			if err != nil || len(got) != 1 || got[0].Job.ID.String() != tt.want {
				t.Fatalf("got %+v, %v; want the job %s", got, err, tt.want)
			}
			if id := got[0].Job.ID; !job.ContainsJob(env, id, 0) || job.ContainsJob(env, id, 1) || job.ContainsJob(env, job.ID{9}, 0) {
				t.Error("ContainsJob disagrees with DecodeMessage")
			}
			p, ok := job.PeekJob(env, got[0].Job.ID, 0)
			if one := got[0].Job; !ok || !p.CreatedAt.Equal(one.CreatedAt) || !p.Deadline.Equal(one.Deadline) {
				t.Errorf("PeekJob says %+v, %v; DecodeMessage %v, %v", p, ok, one.CreatedAt, one.Deadline)
			}
		})
	}
}

func TestMessageThatIsRefused(t *testing.T) {
	tests := []struct {
		name, contentType, body string
		headers                 []string
		code                    job.Code
		field                   string
	}{
		{"no content type", "", requestX, nil, job.CodeMalformed, ""},
		{"unknown content type", "text/plain", requestX, nil, job.CodeMalformed, ""},
		{"malformed JSON", job.ContentTypeJSON, `{"inputs":[`, nil, job.CodeMalformed, "inputs[0]"},
		{"malformed protobuf", job.ContentTypeProtobuf, "\x0a\x7f", nil, job.CodeMalformed, ""},
		{"another model, JSON", job.ContentTypeJSON, `{"model_name":"other"}`, nil, job.CodeInvalid, "model_name"},
		{"another model, protobuf", job.ContentTypeProtobuf, "\x0a\x05other", nil, job.CodeInvalid, "model_name"},
		{"two versions", job.ContentTypeJSON, `{"model_version":"1"}`, []string{job.HeaderModelVersion, "2"}, job.CodeInvalid, job.HeaderModelVersion},
		{"version no name", job.ContentTypeJSON, `{}`, []string{job.HeaderModelVersion, "../2"}, job.CodeInvalid, job.HeaderModelVersion},
		{"deadline no time", job.ContentTypeJSON, `{}`, []string{job.HeaderDeadline, "tomorrow"}, job.CodeInvalid, job.HeaderDeadline},
		{"deadline out of range", job.ContentTypeJSON, `{}`, []string{job.HeaderDeadline, "18446744073709551615"}, job.CodeInvalid, job.HeaderDeadline},
		{"reply into the queue", job.ContentTypeJSON, `{}`, []string{job.HeaderReply, "sheaf.bulk.m.t"}, job.CodeInvalid, job.HeaderReply},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			headers := append([]string{job.HeaderID, uuidA, job.HeaderContentType, tt.contentType}, tt.headers...)
			got, err := job.DecodeMessage(envelope([]byte(tt.body), headers...), job.DefaultLimits())
			if err != nil || len(got) != 1 || got[0].Err == nil {
				t.Fatalf("got %+v, %v; want one broken job", got, err)
			}
			if e := got[0].Err; e.Code != tt.code || e.Field != tt.field {
				t.Errorf("got %s at %q (%v), want %s at %q", e.Code, e.Field, e, tt.code, tt.field)
			}
			if got[0].Job.ID != mustID(t, uuidA) || got[0].Job.Inputs != nil {
				t.Errorf("got job %+v, want the ID and no inputs", got[0].Job)
			}
		})
	}
}

func TestMessageTraceParent(t *testing.T) {
	for _, s := range []string{"", "00", strings.ToUpper(traceParent), traceParent + "-00", "00_" + traceParent[3:], "ff" + traceParent[2:]} {
		env := envelope([]byte(`{}`), job.HeaderID, uuidA, job.HeaderContentType, job.ContentTypeJSON, job.HeaderTraceParent, s)
		got, err := job.DecodeMessage(env, job.DefaultLimits())
		if err != nil || got[0].Err != nil || got[0].Job.TraceParent != "" {
			t.Errorf("%q: got %+v, %v; want a job without a trace context", s, got, err)
		}
	}
}

func TestMessageWithoutHeaders(t *testing.T) {
	env := &job.Envelope{Body: []byte(`{}`)}
	if got, err := job.DecodeMessage(env, job.DefaultLimits()); err == nil || len(got) != 0 {
		t.Errorf("got %+v, %v; want an error", got, err)
	}
	if job.ContainsJob(env, job.ID{1}, 0) {
		t.Error("a message without any ID contains a job")
	}
}
