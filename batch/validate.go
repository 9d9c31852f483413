package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/sheafml/sheaf/job"
)

// maxFaults bounds the reasons that are listed.
const maxFaults = 20

// Codes of faults, beside those of jobs. Where OpenAI has a word it is that.
const (
	faultEmpty     = "empty_file"
	faultLines     = "invalid_jsonl_file"
	faultTooMany   = "too_many_requests"
	faultDuplicate = "duplicate_custom_id"
	faultInput     = "input_unavailable"
	faultChanged   = "input_changed"
	faultRunner    = "internal_error"
)

// validate reads the input once. faults is why it cannot be used at all: a single bad line is no reason, it has a line
// of its own among the errors.
//
// That each custom_id is there once is held by a hash of 8 bytes for each of MaxLines at most, keyed anew each time: two
// IDs of a million are taken for one with a probability below 1 to 30 million.
func (s *Service) validate(ctx context.Context, r *record, in io.Reader) (lines int64, faults []Fault, err error) {
	from := newScanner(in, r.Cut)
	ids, seed := map[uint64]struct{}{}, maphash.MakeSeed()
	good := false
	for ctx.Err() == nil {
		l, err := from.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, nil, err
		}
		if from.count > s.cfg.MaxLines {
			return 0, []Fault{{Code: faultTooMany, Message: fmt.Sprintf("expected at most %d lines", s.cfg.MaxLines), Line: l.number}}, nil
		}
		custom, ok := customID(l.text, r.Spec.Plain)
		good = good || ok
		if custom == "" {
			continue
		}
		h := maphash.String(seed, custom)
		if _, twice := ids[h]; !twice {
			ids[h] = struct{}{}
		} else if faults = append(faults, Fault{Code: faultDuplicate, Message: "the custom_id is that of a line before", Param: "custom_id", Line: l.number}); len(faults) == maxFaults {
			return from.count, faults, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return 0, nil, context.Cause(ctx)
	case from.count == 0:
		faults = []Fault{{Code: faultEmpty, Message: "the input has no lines"}}
	case !good:
		faults = []Fault{{Code: faultLines, Message: "no line of the input is JSON of the expected form: one request a line is expected", Line: 1}}
	}
	return from.count, faults, nil
}

// customID reads just as much of a line as has to be known before the batch begins; ok says that it is JSON.
func customID(text []byte, plain bool) (id string, ok bool) {
	if plain {
		return "", json.Valid(text)
	}
	var l struct {
		CustomID *string `json:"custom_id"`
	}
	if json.Unmarshal(text, &l) != nil {
		return "", false
	}
	if l.CustomID == nil || len(*l.CustomID) > maxCustomID {
		return "", true
	}
	return *l.CustomID, true
}

// open opens the input of a batch. What is wrong with it for good is a *job.Error.
func (s *Service) open(ctx context.Context, r *record) (io.ReadCloser, error) {
	if r.Spec.InputFile != "" {
		in, _, err := s.objects.Open(ctx, inputObject(r.Tenant, r.Spec.InputFile))
		if errors.Is(err, job.ErrNotFound) {
			err = job.Errorf(faultInput, "input_file_id", "the file is gone")
		}
		return in, err
	}
	if s.deps.Inputs == nil {
		return nil, job.Errorf(faultInput, "input_url", "this server reads no URLs")
	}
	in, closer, err := s.deps.Inputs.Open(ctx, r.Spec.InputURL)
	if err != nil {
		return nil, err
	}
	body, err := in.From(0)
	if err != nil {
		_ = closer.Close() // it was not read
		return nil, err
	}
	return &opened{body, closer}, nil
}

// opened is an input with what it stands on.
type opened struct {
	io.ReadCloser
	below io.Closer
}

// Close implements io.Closer.
func (o *opened) Close() error { return errors.Join(o.ReadCloser.Close(), o.below.Close()) }
