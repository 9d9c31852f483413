package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// However waiting ends, the id of the job has been told.
func TestSubmitNeverLosesTheID(t *testing.T) {
	t.Parallel()
	const id = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i7"
	for _, c := range []struct {
		name string
		poll func(w http.ResponseWriter, r *http.Request)
		end  func(p *process) int
		code int
	}{
		{
			name: "Ctrl-C",
			poll: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			end:  func(p *process) int { return p.stop(syscall.SIGINT) },
			code: exitInterrupted,
		},
		{
			name: "lost connection",
			poll: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			end: func(p *process) int {
				<-p.exited
				return p.cmd.ProcessState.ExitCode()
			},
			code: exitUnreachable,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			polled := make(chan struct{})
			mux := http.NewServeMux()
			mux.HandleFunc("POST /v1/models/digits/jobs", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Prefer") != "" {
					t.Error("the submit waits, and nobody knows its id meanwhile")
				}
				w.WriteHeader(http.StatusAccepted)
				fmt.Fprintf(w, `{"id":%q,"status":"queued"}`, id)
			})
			mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
				select {
				case polled <- struct{}{}:
				default: // net/http's client tries once more on a connection that it had used before
				}
				c.poll(w, r)
			})
			server := httptest.NewServer(mux)
			defer server.Close()
			p := start(t, "submit", "digits", "[1]", "--wait", "--server", server.URL)
			<-polled
			code := c.end(p)
			if want := "The job goes on. Ask again with: sheaf result " + id; code != c.code || !strings.Contains(p.text(), want) {
				t.Errorf("exit code %d, expected %d and %q: %s", code, c.code, want, p.text())
			}
		})
	}
}

func TestClientUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no time to answer", []string{"result", "x", "--timeout", "0s"}, "--timeout is 0s"},
		{"negative wait", []string{"submit", "digits", "[1]", "--wait=-1s"}, "--wait is -1s"},
		{"no wait", []string{"result", "x", "--wait=0s"}, "--wait is 0s"},
		{"negative deadline", []string{"submit", "digits", "[1]", "--deadline", "-1s"}, "--deadline is -1s"},
		{"wait apart from its value", []string{"submit", "digits", "[1]", "--wait", "5s"}, "(write --wait=5s)"},
		{"empty input", []string{"submit", "digits", ""}, "INPUT is empty"},
		{"empty standard input", []string{"submit", "digits", "-"}, "INPUT is empty"},
		{"forget without a version", []string{"model", "forget", "digits"}, "NAME/VERSION"},
		{"API address", []string{"serve", "--addr", "8080"}, "expected HOST:PORT"},
		{"ops address", []string{"worker", "--ops-addr", "localhost:http"}, "expected HOST:PORT"},
		{"dev's address", []string{"dev", "--addr", "127.0.0.1:99999"}, "expected HOST:PORT"},
		{"NATS address", []string{"dev", "--nats-addr", "4222"}, "expected HOST:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, stderr, code := runToEnd(t, "", c.args...)
			if code != exitUsage || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, expected %d; it says %q, expected %q", code, exitUsage, stderr, c.says)
			}
		})
	}
}
