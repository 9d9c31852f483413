package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/sheafml/sheaf/job"
)

// outcome is what was seen of a job. Two sightings of a finished job must be equal.
type outcome struct {
	state    string
	finished int64 // in milliseconds since 1970, 0 if unfinished
	values   [classes]float32
	n        int    // of values
	why      string // of a job that did not succeed
	attempts int    // deliveries to a worker, of a record
}

func (o *outcome) terminal() bool { return o.finished != 0 }

// same compares two sightings of a finished job. The reason of a failure is worded differently by HTTP and the record.
func (o *outcome) same(p *outcome) bool {
	return o.state == p.state && o.finished == p.finished && o.n == p.n && o.values == p.values
}

func (o *outcome) String() string {
	s := o.state
	if o.terminal() {
		s += " at " + time.UnixMilli(o.finished).UTC().Format("15:04:05.000")
	}
	if o.why != "" {
		s += ": " + o.why
	}
	return s
}

// fault says what is wrong with a finished job as the result of this row, "" if nothing is.
func (o *outcome) fault(r *row) string {
	if o.state != job.Succeeded.String() {
		return o.String()
	}
	if o.n > classes {
		return fmt.Sprintf("expected %d probabilities, got %d", classes, o.n)
	}
	return r.fault(o.values[:o.n])
}

func (o *outcome) put(values []float32) {
	o.n = len(values)
	copy(o.values[:], values)
}

// ofRecord reads a record of the result store.
func ofRecord(id job.ID, record []byte) (outcome, error) {
	r, err := job.DecodeRecord(id, record)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{state: r.State.String(), finished: r.FinishedAt.UnixMilli(), attempts: r.Attempts}
	if r.Error != nil {
		o.why = string(r.Error.Code) + ": " + r.Error.Error()
	}
	if len(r.Outputs) > 0 {
		data := r.Outputs[0].Data
		values := make([]float32, len(data)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		o.put(values)
	}
	return o, nil
}

// answer is the JSON of a job.
type answer struct {
	ID         string    `json:"id"`
	Status     string    `json:"status"`
	FinishedAt time.Time `json:"finished_at"`
	Outputs    []struct {
		Data []float32 `json:"data"`
	} `json:"outputs"`
	Error struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	} `json:"error"`
}

// ofJSON reads an answer of the HTTP API.
func ofJSON(body []byte) (id string, o outcome, err error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", outcome{}, fmt.Errorf("not the JSON of a job: %w", err)
	}
	o.state = a.Status
	if !a.FinishedAt.IsZero() {
		o.finished = a.FinishedAt.UnixMilli()
	}
	if a.Error.Detail != "" {
		o.why = a.Error.Type + ": " + a.Error.Detail
	}
	if len(a.Outputs) > 0 {
		o.put(a.Outputs[0].Data)
	}
	return a.ID, o, nil
}
