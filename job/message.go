package job

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DecodeMessage reads every job of a message. The tensors of the jobs alias env.Body.
// The error says that some part of the message could not be attributed to any job: what could be is returned all
// the same, and the message belongs among the dead letters.
//
// The jobs of a sheaf carry their own ID, deadline, reply, version and trace context. For a message of one request the
// headers say them; the request's `id` is the job ID where the header has none, if it is a UUID.
// Limits.MaxBytes holds for each job. Limits.MaxRows is left to whoever knows whether the model has a batch axis.
func DecodeMessage(env *Envelope, lim Limits) ([]Decoded, error) {
	if env.contentType() == ContentTypeSheaf {
		jobs, err := decodeSheaf(env, lim)
		if id, noID := ParseID(env.header(HeaderID)); err != nil && len(jobs) == 0 && noID == nil {
			// The message's ID is its job's if it was to carry one: whoever published it is to learn what became of it.
			first := Decoded{Job: env.newJob(), Err: Errorf(CodeMalformed, "", "%v", err)}
			first.Job.ID = id
			jobs = append(jobs, first)
		}
		return jobs, err
	}
	d := Decoded{Job: env.newJob()}
	d.Err = decodeRequest(env, &d.Job, lim)
	d.Job.ID = env.requestID(&d.Job)
	if err := env.readHeaders(&d.Job); d.Err == nil {
		d.Err = err
	}
	if d.Err != nil {
		d.Job.Inputs, d.Job.Outputs, d.Job.Parameters = nil, nil, nil
	}
	if d.Job.ID.IsZero() {
		err := fmt.Errorf("the message has no job ID: expected a UUID in the header %s, or as the request's id", HeaderID)
		if d.Err != nil {
			err = fmt.Errorf("%w; and its request cannot be read: %w", err, d.Err)
		}
		return nil, err
	}
	return []Decoded{d}, nil
}

// newJob returns the job that the subject alone describes.
func (env *Envelope) newJob() Job {
	return Job{Lane: env.Lane, Tenant: env.Tenant, Model: env.Model, CreatedAt: env.Published}
}

// decodeRequest reads the one request of a message that is not a sheaf.
func decodeRequest(env *Envelope, j *Job, lim Limits) *Error {
	switch ct := env.contentType(); ct {
	case ContentTypeJSON:
		return toError(DecodeRequestJSON(env.Body, j, lim, nil))
	case ContentTypeProtobuf:
		return toError(DecodeRequestProtobuf(env.Body, j, lim))
	default:
		found := "found none"
		if ct != "" {
			found = "found another"
		}
		return Errorf(CodeMalformed, "", "the header %s: expected %s, %s or %s, %s",
			HeaderContentType, ContentTypeSheaf, ContentTypeProtobuf, ContentTypeJSON, found)
	}
}

// requestID returns the job ID of a message of one request, zero if it has none. j holds what the body says.
func (env *Envelope) requestID(j *Job) ID {
	if id, err := ParseID(env.header(HeaderID)); err == nil {
		return id
	}
	id, _ := ParseID(j.RequestID)
	return id
}

// readHeaders sets what the headers of a message of one request say. It reads all of them even if one is wrong.
func (env *Envelope) readHeaders(j *Job) *Error {
	j.TraceParent = validTraceParent([]byte(env.header(HeaderTraceParent)))
	err := setReply(&j.Reply, HeaderReply, env.header(HeaderReply))
	err = cmpError(err, setWebhook(&j.Webhook, HeaderWebhook, env.header(HeaderWebhook)))
	if s := env.header(HeaderModelVersion); s != "" {
		err = cmpError(err, wantVersion(j, s, HeaderModelVersion))
	}
	if s := env.header(HeaderDeadline); s != "" {
		err = cmpError(err, setDeadline(&j.Deadline, s))
	}
	return err
}

// cmpError returns the first error there is.
func cmpError(a, b *Error) *Error {
	if a != nil {
		return a
	}
	return b
}

// wantVersion sets the version that a job asks for, which must not be said twice differently.
func wantVersion(j *Job, version, field string) *Error {
	switch {
	case version == "":
		return nil
	case !ValidName(version):
		return Invalidf(field, "expected a version: 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit")
	case j.Version != "" && j.Version != version:
		return Invalidf(field, "the request asks for two different versions")
	}
	j.Version = version
	return nil
}

// wantModel sets the model that a job is for; a model that is set already must be the same.
func wantModel(j *Job, model string) *Error {
	switch {
	case model == "":
		return nil
	case j.Model == "":
		j.Model = model
		return nil
	case j.Model != model:
		return Invalidf("model_name", "expected the model that the request was sent to, found another")
	}
	return nil
}

func setDeadline(t *time.Time, s string) *Error {
	if ms, err := strconv.ParseUint(s, 10, 64); err == nil {
		return setTime(t, HeaderDeadline, ms)
	}
	d, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Invalidf(HeaderDeadline, "expected a time as RFC 3339, or milliseconds since the Unix epoch")
	}
	*t = d.UTC()
	return nil
}

// setReply accepts a subject that an outcome may be published to. Subjects of the server and of Sheaf itself are not
// for publishers of jobs to write to.
func setReply(dst *string, field, s string) *Error {
	if s == "" {
		return nil
	}
	ok := len(s) <= 256 && ValidText(s, 256) && !strings.ContainsAny(s, " *>") &&
		!strings.HasPrefix(s, ".") && !strings.HasSuffix(s, ".") && !strings.Contains(s, "..") &&
		!strings.HasPrefix(s, "$") && !strings.HasPrefix(s, "sheaf.")
	if !ok {
		return Invalidf(field, "expected a NATS subject of at most 256 bytes without wildcards, outside $ and sheaf.")
	}
	*dst = s
	return nil
}

// validTraceParent returns b as a string if it is a traceparent of version 00, and "" if not: a broken trace context
// is no reason to refuse a job.
func validTraceParent(b []byte) string {
	if len(b) != 55 || b[0] != '0' || b[1] != '0' {
		return ""
	}
	for i, c := range b {
		dash := i == 2 || i == 35 || i == 52
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash && c != '-' || !dash && !hex {
			return ""
		}
	}
	return string(b)
}

// setName reads a version.
func setName(dst *string, field string, b []byte, names *interner) *Error {
	s, ok := names.get(b)
	if !ok {
		return errText(field)
	}
	if s != "" && !ValidName(s) {
		return Invalidf(field, "expected 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit")
	}
	*dst = s
	return nil
}

func setText(dst *string, field string, b []byte) *Error {
	s, ok := text(b)
	if !ok {
		return errText(field)
	}
	*dst = s
	return nil
}

// decodeSheaf reads the jobs of a sheaf.v1.Sheaf.
func decodeSheaf(env *Envelope, lim Limits) ([]Decoded, error) {
	count, whole := 0, fieldReader{rest: env.Body}
	for whole.next() {
		if whole.tag == sheafJobs<<3|wireBytes {
			count++
		}
	}
	var faults []error
	if whole.bad {
		faults = append(faults, errors.New("the message is cut off or is not a sheaf"))
	}
	if count == 0 && !whole.bad {
		faults = append(faults, errors.New("the sheaf has no jobs"))
	}
	if count > lim.MaxJobs {
		faults = append(faults, fmt.Errorf("the sheaf has %d jobs, at most %d are read", count, lim.MaxJobs))
		count = lim.MaxJobs
	}
	jobs := make([]Decoded, 0, count)
	d := sheafDecoder{lim: lim, tensors: make([]Tensor, 0, count), shapes: make([]int64, 0, 2*count)}
	seen := newIDSet(count)
	nameless, repeated := 0, 0
	f := fieldReader{rest: env.Body}
	for n := 0; n < count && f.next(); {
		if f.tag != sheafJobs<<3|wireBytes {
			continue
		}
		n++
		jobs = append(jobs, Decoded{Job: env.newJob()})
		last := &jobs[len(jobs)-1]
		switch {
		case !d.job(f.bytes, last):
			nameless++
			jobs = jobs[:len(jobs)-1]
		case !seen.add(jobs, len(jobs)-1):
			repeated++
			jobs = jobs[:len(jobs)-1]
		}
	}
	if nameless > 0 {
		faults = append(faults, fmt.Errorf("%d of the sheaf's jobs have no ID of 16 bytes", nameless))
	}
	if repeated > 0 {
		faults = append(faults, fmt.Errorf("%d of the sheaf's jobs have the ID of one before", repeated))
	}
	return jobs, errors.Join(faults...)
}

// idSet finds repeated IDs in a list of jobs: a hash table, with open addressing, of places in the list.
type idSet []int32 // place + 1; 0 is free

func newIDSet(count int) idSet {
	size := 2
	for size < 2*count {
		size *= 2
	}
	return make(idSet, size)
}

// add notes the ID of jobs[i]. It returns false if an earlier job has it. At most count jobs may be added.
func (s idSet) add(jobs []Decoded, i int) bool {
	id := &jobs[i].Job.ID
	h := binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])*0x9e3779b97f4a7c15
	for h >>= 32; ; h++ {
		slot := &s[h&uint64(len(s)-1)] //nolint:gosec // a length
		if *slot == 0 {
			*slot = int32(i + 1) //nolint:gosec // bounded by Limits.MaxJobs
			return true
		}
		if jobs[*slot-1].Job.ID == *id {
			return false
		}
	}
}
