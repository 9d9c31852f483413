package job

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// recordVersion is the first byte of a record. Fields are added to sheaf.v1.Record without a new version; a new version
// is for a form that an older reader would misread.
const recordVersion = 1

// Field numbers of sheaf.v1.Record and sheaf.v1.Error; see proto/sheaf/sheaf.proto.
const (
	recordState     = 1
	recordTenant    = 2
	recordModel     = 3
	recordVersionOf = 4
	recordRequestID = 5
	recordOutputs   = 6
	recordError     = 7
	recordAttempts  = 8
	recordCreated   = 9
	recordFinished  = 10
	recordQueue     = 11
	recordBatchWait = 12
	recordInfer     = 13
	recordBatchRows = 14
	recordToken     = 15

	recordWebhook     = 16
	recordFingerprint = 17

	errorCode   = 1
	errorField  = 2
	errorDetail = 3
)

// recordLimits bounds what a record is believed to hold. It was written by a worker, so they only have to keep a
// damaged one from costing memory.
func recordLimits() Limits {
	return Limits{MaxRank: 64, MaxElements: math.MaxInt32, MaxTensors: 1024}
}

// AppendRecord appends the terminal record of r: its version as one byte, then sheaf.v1.Record as protobuf.
// The ID is not in it: it is the record's key.
func AppendRecord(dst []byte, r *Result) []byte {
	b := append(dst, recordVersion)
	b = appendUint(b, recordState, uint64(r.State))
	b = appendText(b, recordTenant, r.Tenant)
	b = appendText(b, recordModel, r.Model)
	b = appendText(b, recordVersionOf, r.Version)
	b = appendText(b, recordRequestID, r.RequestID)
	for i := range r.Outputs {
		b = appendTensor(b, recordOutputs, &r.Outputs[i])
	}
	if e := r.Error; e != nil {
		hint := 16 + len(e.Code) + len(e.Field) + len(e.Detail)
		var start int
		b, start = beginMessage(b, recordError, hint)
		b = appendText(b, errorCode, string(e.Code))
		b = appendText(b, errorField, e.Field)
		b = appendText(b, errorDetail, e.Detail)
		b = endMessage(b, start, hint)
	}
	b = appendInt(b, recordAttempts, r.Attempts)
	b = appendTime(b, recordCreated, r.CreatedAt)
	b = appendTime(b, recordFinished, r.FinishedAt)
	b = appendMicros(b, recordQueue, r.Timings.Queue)
	b = appendMicros(b, recordBatchWait, r.Timings.BatchWait)
	b = appendMicros(b, recordInfer, r.Timings.Infer)
	b = appendInt(b, recordBatchRows, r.Timings.BatchRows)
	b = appendFixed64(b, recordToken, r.Token)
	b = appendText(b, recordWebhook, r.Webhook)
	return appendFixed64(b, recordFingerprint, r.Fingerprint)
}

// DecodeRecord is the inverse of AppendRecord. Output tensors alias record.
// The error says what is wrong with the record: it is of a version that this program is too old for, or is damaged.
func DecodeRecord(id ID, record []byte) (Result, error) {
	if len(record) == 0 {
		return Result{}, errors.New("the record is empty")
	}
	if v := record[0]; v != recordVersion {
		if v > recordVersion {
			return Result{}, fmt.Errorf("the record is of version %d, this program reads version %d: a newer worker wrote it, update this program", v, recordVersion)
		}
		return Result{}, fmt.Errorf("not a record: it starts with %d, expected version %d", v, recordVersion)
	}
	d := recordDecoder{lim: recordLimits(), r: Result{ID: id}}
	f := fieldReader{rest: record[1:]}
	for f.next() {
		if err := d.field(&f); err != nil {
			return Result{}, fmt.Errorf("the record is damaged: %w", err)
		}
	}
	switch {
	case f.bad:
		return Result{}, errors.New("the record is damaged or cut off")
	case !d.r.State.Terminal():
		return Result{}, fmt.Errorf("the record is damaged: %q is not a terminal state", d.r.State)
	}
	return d.r, nil
}

type recordDecoder struct {
	lim    Limits
	r      Result
	shapes []int64
	names  interner
}

func (d *recordDecoder) field(f *fieldReader) *Error {
	r := &d.r
	switch f.tag {
	case recordState<<3 | wireVarint:
		r.State = State(min(f.num, math.MaxUint8))
	case recordTenant<<3 | wireBytes:
		return plainText(&r.Tenant, "tenant", f.bytes)
	case recordModel<<3 | wireBytes:
		return plainText(&r.Model, "model", f.bytes)
	case recordVersionOf<<3 | wireBytes:
		return plainText(&r.Version, "version", f.bytes)
	case recordRequestID<<3 | wireBytes:
		return plainText(&r.RequestID, "request_id", f.bytes)
	case recordOutputs<<3 | wireBytes:
		return d.output(f.bytes)
	case recordError<<3 | wireBytes:
		return d.error(f.bytes)
	case recordAttempts<<3 | wireVarint:
		r.Attempts = int(uint32(f.num)) //nolint:gosec // a uint32 field keeps its low bits
	case recordCreated<<3 | wireVarint:
		return setTime(&r.CreatedAt, "created_unix_ms", f.num)
	case recordFinished<<3 | wireVarint:
		return setTime(&r.FinishedAt, "finished_unix_ms", f.num)
	case recordQueue<<3 | wireVarint:
		return setMicros(&r.Timings.Queue, "queue_us", f.num)
	case recordBatchWait<<3 | wireVarint:
		return setMicros(&r.Timings.BatchWait, "batch_wait_us", f.num)
	case recordInfer<<3 | wireVarint:
		return setMicros(&r.Timings.Infer, "infer_us", f.num)
	case recordBatchRows<<3 | wireVarint:
		r.Timings.BatchRows = int(uint32(f.num)) //nolint:gosec // as above
	case recordToken<<3 | wireFixed64:
		r.Token = f.num
	case recordWebhook<<3 | wireBytes:
		return plainText(&r.Webhook, "webhook", f.bytes)
	case recordFingerprint<<3 | wireFixed64:
		r.Fingerprint = f.num
	}
	return nil
}

func (d *recordDecoder) output(b []byte) *Error {
	i := len(d.r.Outputs)
	if i >= d.lim.MaxTensors {
		return Invalidf("outputs", "expected at most %d outputs", d.lim.MaxTensors)
	}
	var t Tensor
	if err := decodeTensor(b, &t, &d.shapes, &d.names, d.lim.MaxRank); err != nil {
		return under(at("outputs", i), err)
	}
	d.r.Outputs = append(d.r.Outputs, t)
	return checkTensor(&t, "outputs", i, d.lim)
}

func (d *recordDecoder) error(b []byte) *Error {
	if d.r.Error == nil {
		d.r.Error = new(Error)
	}
	f := fieldReader{rest: b}
	for f.next() {
		var err *Error
		switch f.tag {
		case errorCode<<3 | wireBytes:
			var code string
			err = plainText(&code, "error.code", f.bytes)
			d.r.Error.Code = Code(code)
		case errorField<<3 | wireBytes:
			err = plainText(&d.r.Error.Field, "error.field", f.bytes)
		case errorDetail<<3 | wireBytes:
			err = plainText(&d.r.Error.Detail, "error.detail", f.bytes)
		}
		if err != nil {
			return err
		}
	}
	if f.bad {
		return Errorf(CodeMalformed, "error", "not a valid sheaf.v1.Error message")
	}
	return nil
}

// plainText reads a string that may hold anything that is valid UTF-8.
func plainText(dst *string, field string, b []byte) *Error {
	if !utf8.Valid(b) {
		return Errorf(CodeMalformed, field, "not valid UTF-8")
	}
	*dst = string(b)
	return nil
}

func appendMicros(b []byte, num protowire.Number, d time.Duration) []byte {
	return appendUint(b, num, uint64(max(d.Microseconds(), 0)))
}

func setMicros(d *time.Duration, field string, us uint64) *Error {
	if us > math.MaxInt64/uint64(time.Microsecond) {
		return Invalidf(field, "longer than a duration can be")
	}
	*d = time.Duration(us) * time.Microsecond
	return nil
}

// appendFixed64 appends a fixed64 field, and nothing for 0.
func appendFixed64(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, v)
}
