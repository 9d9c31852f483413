package job

import (
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of sheaf.v1.Sheaf and sheaf.v1.Job; see proto/sheaf/sheaf.proto.
const (
	sheafJobs = 1

	jobID          = 1
	jobVersion     = 2
	jobRequestID   = 3
	jobCreated     = 4
	jobDeadline    = 5
	jobReply       = 6
	jobTraceParent = 7
	jobInputs      = 8
	jobOutputs     = 9
	jobParameters  = 10
	jobIdempotent  = 11
	jobWebhook     = 12
	jobFingerprint = 13
)

// AppendJob appends j, as one `jobs` field of sheaf.v1.Sheaf, to dst. The concatenation of such fields is a sheaf.
// Lane, tenant and model are not in it: the subject of the message says them. Times keep milliseconds.
func AppendJob(dst []byte, j *Job) []byte {
	hint := 40 + len(j.Version) + len(j.RequestID) + len(j.Reply) + len(j.TraceParent) + len(j.Webhook)
	for i := range j.Inputs {
		hint += 4 + tensorHint(&j.Inputs[i])
	}
	b, start := beginMessage(dst, sheafJobs, hint)
	b = protowire.AppendTag(b, jobID, protowire.BytesType)
	b = protowire.AppendBytes(b, j.ID[:])
	b = appendText(b, jobVersion, j.Version)
	b = appendText(b, jobRequestID, j.RequestID)
	b = appendTime(b, jobCreated, j.CreatedAt)
	b = appendTime(b, jobDeadline, j.Deadline)
	b = appendText(b, jobReply, j.Reply)
	b = appendText(b, jobTraceParent, j.TraceParent)
	for i := range j.Inputs {
		b = appendTensor(b, jobInputs, &j.Inputs[i])
	}
	for _, name := range j.Outputs {
		b = protowire.AppendTag(b, jobOutputs, protowire.BytesType)
		b = protowire.AppendString(b, validUTF8(name))
	}
	for i := range j.Parameters {
		b = appendParameter(b, jobParameters, &j.Parameters[i])
	}
	if j.Idempotent {
		b = appendUint(b, jobIdempotent, 1)
	}
	b = appendText(b, jobWebhook, j.Webhook)
	b = appendFixed64(b, jobFingerprint, j.Fingerprint)
	return endMessage(b, start, hint)
}

// sheafDecoder decodes the jobs of one sheaf. What they hold lies side by side in a few slabs, so that a job of one
// row costs hardly an allocation. A slab that must grow leaves earlier slices of it as they are.
type sheafDecoder struct {
	lim     Limits
	tensors []Tensor
	shapes  []int64
	outputs []string
	names   interner
}

// job reads one sheaf.v1.Job into out, whose lane, tenant, model and creation time are set already. It returns false if
// the job has no ID and so can have no record.
func (d *sheafDecoder) job(b []byte, out *Decoded) bool {
	j := &out.Job
	tensors, outputs := len(d.tensors), len(d.outputs)
	fail := func(err *Error) {
		if out.Err == nil {
			out.Err = err
		}
	}
	if len(b) > d.lim.MaxBytes {
		fail(errTooLarge(len(b), d.lim))
	}
	f := fieldReader{rest: b}
	for f.next() {
		if f.tag == jobID<<3|wireBytes {
			j.ID = wireID(f.bytes)
			continue
		}
		if f.tag == jobWebhook<<3|wireBytes {
			fail(setWebhook(&j.Webhook, "webhook", string(f.bytes)))
			continue
		}
		if out.Err != nil {
			continue // only the ID is of interest now, and who is to be told
		}
		switch f.tag {
		case jobVersion<<3 | wireBytes:
			fail(setName(&j.Version, "version", f.bytes, &d.names))
		case jobRequestID<<3 | wireBytes:
			fail(setText(&j.RequestID, "request_id", f.bytes))
		case jobCreated<<3 | wireVarint:
			fail(setTime(&j.CreatedAt, "created_unix_ms", f.num))
		case jobDeadline<<3 | wireVarint:
			fail(setTime(&j.Deadline, "deadline_unix_ms", f.num))
		case jobReply<<3 | wireBytes:
			fail(setReply(&j.Reply, "reply", string(f.bytes)))
		case jobTraceParent<<3 | wireBytes:
			if !utf8.Valid(f.bytes) {
				fail(errText("traceparent"))
			}
			j.TraceParent = validTraceParent(f.bytes)
		case jobInputs<<3 | wireBytes:
			fail(d.input(f.bytes, len(d.tensors)-tensors))
		case jobOutputs<<3 | wireBytes:
			fail(d.output(f.bytes, len(d.outputs)-outputs))
		case jobParameters<<3 | wireBytes:
			fail(addParameter(&j.Parameters, f.bytes, &d.names))
		case jobIdempotent<<3 | wireVarint:
			j.Idempotent = f.num != 0
		case jobFingerprint<<3 | wireFixed64:
			j.Fingerprint = f.num
		}
	}
	if f.bad {
		out.Err = Errorf(CodeMalformed, "", "the job is not a valid sheaf.v1.Job message")
	}
	j.Inputs = d.tensors[tensors:len(d.tensors):len(d.tensors)]
	j.Outputs = d.outputs[outputs:len(d.outputs):len(d.outputs)]
	if out.Err == nil {
		fail(checkNames(j))
	}
	if out.Err == nil {
		fail(under("parameters", sortParameters(j.Parameters)))
	}
	if out.Err != nil {
		j.Inputs, j.Outputs, j.Parameters = nil, nil, nil
	}
	return !j.ID.IsZero()
}

// input reads the i-th input of a job.
func (d *sheafDecoder) input(b []byte, i int) *Error {
	if i >= d.lim.MaxTensors {
		return Invalidf("inputs", "expected at most %d inputs", d.lim.MaxTensors)
	}
	d.tensors = append(d.tensors, Tensor{})
	t := &d.tensors[len(d.tensors)-1]
	if err := decodeTensor(b, t, &d.shapes, &d.names, d.lim.MaxRank); err != nil {
		return under(at("inputs", i), err)
	}
	if len(t.Name) > maxText {
		return errText(at("inputs", i) + ".name")
	}
	return checkTensor(t, "inputs", i, d.lim)
}

func (d *sheafDecoder) output(b []byte, i int) *Error {
	if i >= d.lim.MaxTensors {
		return Invalidf("outputs", "expected at most %d outputs", d.lim.MaxTensors)
	}
	name, ok := d.names.get(b)
	if !ok || len(name) > maxText {
		return errText(at("outputs", i))
	}
	d.outputs = append(d.outputs, name)
	return nil
}

// wireID returns the ID if b is the 16 bytes of one, and the zero ID if not.
func wireID(b []byte) ID {
	if len(b) != len(ID{}) {
		return ID{}
	}
	return ID(b)
}

// maxUnixMilli is the end of the year 9999, past which a time has no RFC 3339 form.
const maxUnixMilli = 253402300799999

// setTime reads milliseconds since the Unix epoch; 0 leaves t as it is.
func setTime(t *time.Time, field string, ms uint64) *Error {
	if ms > maxUnixMilli {
		return Invalidf(field, "expected milliseconds since the Unix epoch, before the year 10000")
	}
	if ms != 0 {
		*t = time.UnixMilli(int64(ms)).UTC()
	}
	return nil
}

// appendTime appends t in milliseconds since the Unix epoch. A time before the epoch becomes its first millisecond,
// since 0 stands for no time.
func appendTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	ms := min(max(t.UnixMilli(), 1), maxUnixMilli)
	return appendUint(b, num, uint64(ms))
}

// appendUint appends a varint field, and nothing for 0.
func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// appendInt appends a count as a uint32 field; what does not fit is brought into its range.
func appendInt(b []byte, num protowire.Number, v int) []byte {
	return appendUint(b, num, uint64(min(max(v, 0), math.MaxInt32)))
}
