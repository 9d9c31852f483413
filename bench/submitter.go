package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/job"
)

// submitter submits over HTTP, as clients of the API do.
type submitter struct {
	base   string
	load   *workload
	client *http.Client
}

func newSubmitter(l *lab, load *workload) *submitter {
	return &submitter{
		base: "http://" + l.apiAddr, load: load,
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 2048, IdleConnTimeout: time.Minute}},
	}
}

// reply is an answer to a submit. status 0 is none.
type reply struct {
	status     int
	ticket     job.Ticket
	state      string
	retryAfter string
	problem    string // type of a refusal, or why there was no answer
}

// submit submits the i-th sample, with a deadline unless it is zero, and a preference unless it is empty.
func (s *submitter) submit(ctx context.Context, i int, deadline time.Time, prefer string) reply {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/models/"+s.load.model+"/jobs", bytes.NewReader(s.load.at(i).body))
	if err != nil {
		return reply{problem: err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	if !deadline.IsZero() {
		req.Header.Set(job.HeaderDeadline, strconv.FormatInt(deadline.UnixMilli(), 10))
	}
	if prefer != "" {
		req.Header.Set("Prefer", prefer)
	}
	resp, body, err := s.do(req)
	if err != nil {
		return reply{problem: "no answer: " + err.Error()}
	}
	r := reply{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
	var doc struct {
		ID     string `json:"id"`
		Status any    `json:"status"` // of a job its state, of a problem the number
		Type   string `json:"type"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		r.problem = fmt.Sprintf("not JSON: %.80s", body)
		return r
	}
	if r.problem = doc.Type; r.status >= http.StatusBadRequest {
		return r
	}
	r.state, _ = doc.Status.(string)
	if r.ticket, err = job.ParseTicket(doc.ID); err != nil {
		return reply{problem: err.Error()}
	}
	return r
}

// state asks for a job, and returns its status.
func (s *submitter) state(ctx context.Context, ticket string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/v1/jobs/"+ticket, nil)
	if err != nil {
		return err.Error()
	}
	resp, body, err := s.do(req)
	if err != nil {
		return "no answer"
	}
	var doc struct {
		Status any `json:"status"`
	}
	if err := json.Unmarshal(body, &doc); err != nil || resp.StatusCode != http.StatusOK {
		return "status " + strconv.Itoa(resp.StatusCode)
	}
	return fmt.Sprint(doc.Status)
}

func (s *submitter) do(req *http.Request) (*http.Response, []byte, error) {
	resp, err := s.client.Do(req) //nolint:gosec // a process of this run
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, body, err
}
