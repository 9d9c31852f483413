package job_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheafml/sheaf/job"
)

func decodeSheaf(t *testing.T, env *job.Envelope) []job.Decoded {
	t.Helper()
	got, err := job.DecodeMessage(env, job.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSheafRoundTrip(t *testing.T) {
	full := sampleJob(t)
	least := job.Job{ID: job.ID{1}, Lane: full.Lane, Tenant: full.Tenant, Model: full.Model, CreatedAt: full.CreatedAt}
	got := decodeSheaf(t, sheafEnvelope(full, least))
	if d := diff([]job.Decoded{{Job: full}, {Job: least}}, got); d != "" {
		t.Errorf("jobs (-want +got):\n%s", d)
	}
}

// A message longer than its length was estimated has to be moved; sizes around the steps of a varint show it.
func TestSheafRoundTripOfEverySize(t *testing.T) {
	for size := range 400 {
		j := job.Job{ID: job.ID{1}, Lane: job.Bulk, Tenant: "acme", Model: "digits", CreatedAt: time.UnixMilli(1).UTC()}
		j.Outputs = []string{strings.Repeat("o", size+1)} // not part of the estimate
		j.Inputs = []job.Tensor{{Name: "x", Datatype: job.Uint8, Shape: []int64{int64(size)}, Data: make([]byte, size)}}
		if d := diff([]job.Decoded{{Job: j}}, decodeSheaf(t, sheafEnvelope(j))); d != "" {
			t.Fatalf("size %d (-want +got):\n%s", size, d)
		}
	}
}

func TestSheafTensorsAliasTheBody(t *testing.T) {
	env := sheafEnvelope(oneRowJobs(t, 1)...)
	got := decodeSheaf(t, env)
	clear(env.Body)
	env.Body[len(env.Body)-1] = 0x7f
	if data := got[0].Job.Inputs[0].Data; data[len(data)-1] != 0x7f {
		t.Error("the tensor's data is a copy")
	}
}

func TestSheafFewAllocations(t *testing.T) {
	env := sheafEnvelope(oneRowJobs(t, 64)...)
	allocs := testing.AllocsPerRun(10, func() { decodeSheaf(t, env) })
	if allocs > 16 {
		t.Errorf("decoding 64 one-row jobs made %v allocations, want a handful", allocs)
	}
}

func TestSheafTimes(t *testing.T) {
	j := job.Job{ID: job.ID{1}}
	got := decodeSheaf(t, sheafEnvelope(j))[0].Job
	if want := envelope(nil).Published; !got.CreatedAt.Equal(want) {
		t.Errorf("a job without a creation time has %v, want that of its message, %v", got.CreatedAt, want)
	}
	if !got.Deadline.IsZero() {
		t.Errorf("a job without a deadline has %v", got.Deadline)
	}
	j.Deadline = time.Date(1931, 1, 1, 0, 0, 0, 0, time.UTC)
	got = decodeSheaf(t, sheafEnvelope(j))[0].Job
	if got.Deadline.IsZero() || got.Deadline.Year() != 1970 {
		t.Errorf("a deadline before the epoch became %v, want one that has passed", got.Deadline)
	}
}

// brokenJob returns a `jobs` field whose job has an ID and then the fields that add appends.
func brokenJob(id job.ID, add func(b []byte) []byte) []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, id[:])
	b = add(b)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
}

// wireTensor returns a sheaf.v1.Tensor field.
func wireTensor(name string, dt uint64, dims []int64, data []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		var m []byte
		m = protowire.AppendTag(m, 1, protowire.BytesType)
		m = protowire.AppendString(m, name)
		m = protowire.AppendTag(m, 2, protowire.VarintType)
		m = protowire.AppendVarint(m, dt)
		for _, d := range dims {
			m = protowire.AppendTag(m, 3, protowire.VarintType)
			m = protowire.AppendVarint(m, uint64(d))
		}
		m = protowire.AppendTag(m, 4, protowire.BytesType)
		m = protowire.AppendBytes(m, data)
		b = protowire.AppendTag(b, 8, protowire.BytesType)
		return protowire.AppendBytes(b, m)
	}
}

func text(num protowire.Number, s string) func([]byte) []byte {
	return func(b []byte) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
	}
}

func varint(num protowire.Number, v uint64) func([]byte) []byte {
	return func(b []byte) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
}

func TestSheafBrokenJobSparesItsNeighbours(t *testing.T) {
	twice := func(add func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte { return add(add(b)) }
	}
	const huge = 1 << 40
	tests := []struct {
		name  string
		add   func([]byte) []byte
		code  job.Code
		field string
	}{
		{"cut off", func(b []byte) []byte { return append(b, 0x42, 0x7f) }, job.CodeMalformed, ""},
		{"impossible tag", func(b []byte) []byte { return append(b, 0) }, job.CodeMalformed, ""},
		{"tensor cut off", text(8, "\x0a\x7f"), job.CodeMalformed, "inputs[0]"},
		{"tensor without a name", wireTensor("", 11, []int64{1}, make([]byte, 4)), job.CodeInvalid, "inputs[0].name"},
		{"tensor name not UTF-8", wireTensor("\xff", 11, []int64{1}, make([]byte, 4)), job.CodeMalformed, "inputs[0].name"},
		{"tensor name too long", wireTensor(strings.Repeat("x", 2000), 11, []int64{1}, make([]byte, 4)), job.CodeMalformed, "inputs[0].name"},
		{"unknown datatype", wireTensor("x", 15, []int64{1}, make([]byte, 4)), job.CodeInvalid, "inputs[0].datatype"},
		{"huge datatype", wireTensor("x", huge+11, []int64{1}, make([]byte, 4)), job.CodeInvalid, "inputs[0].datatype"},
		{"data too short", wireTensor("x", 11, []int64{2}, make([]byte, 4)), job.CodeInvalid, "inputs[0].data"},
		{"data too long", wireTensor("x", 11, []int64{2}, make([]byte, 9)), job.CodeInvalid, "inputs[0].data"},
		{"negative dimension", wireTensor("x", 11, []int64{-1}, nil), job.CodeInvalid, "inputs[0].shape"},
		{"huge dimension", wireTensor("x", 11, []int64{huge}, nil), job.CodeInvalid, "inputs[0].shape"},
		{"huge product", wireTensor("x", 11, []int64{1 << 20, 1 << 20, 1 << 20, 1 << 20}, nil), job.CodeInvalid, "inputs[0].shape"},
		{"huge beside zero", wireTensor("x", 11, []int64{huge, 0}, nil), job.CodeInvalid, "inputs[0].shape"},
		{"rank", wireTensor("x", 11, make([]int64, 9), nil), job.CodeInvalid, "inputs[0].shape"},
		{"BOOL of 2", wireTensor("x", 1, []int64{1}, []byte{2}), job.CodeInvalid, "inputs[0].data"},
		{"BYTES cut off", wireTensor("x", 13, []int64{1}, []byte{9, 0, 0, 0, 'a'}), job.CodeInvalid, "inputs[0].data"},
		{"two inputs of one name", twice(wireTensor("x", 11, []int64{0}, nil)), job.CodeInvalid, "inputs[1].name"},
		{"two outputs of one name", twice(text(9, "y")), job.CodeInvalid, "outputs[1].name"},
		{"output without a name", text(9, ""), job.CodeInvalid, "outputs[0].name"},
		{"request ID not UTF-8", text(3, "\xff"), job.CodeMalformed, "request_id"},
		{"version that is a path", text(2, "../1"), job.CodeInvalid, "version"},
		{"reply with a wildcard", text(6, "a.>"), job.CodeInvalid, "reply"},
		{"reply to the server", text(6, "$JS.API.STREAM.DELETE.bulk"), job.CodeInvalid, "reply"},
		{"reply into the queue", text(6, "sheaf.bulk.digits.acme"), job.CodeInvalid, "reply"},
		{"reply that ends the line", text(6, "a\r\nPUB b 0"), job.CodeInvalid, "reply"},
		{"deadline out of range", varint(5, 1<<63), job.CodeInvalid, "deadline_unix_ms"},
		{"parameter without a value", text(10, "\x0a\x01p"), job.CodeInvalid, "parameters.p"},
		{"parameter without a name", text(10, "\x10\x01"), job.CodeInvalid, "parameters"},
		{"parameter twice", twice(text(10, "\x0a\x01p\x10\x01")), job.CodeInvalid, "parameters.p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := sheafEnvelope(job.Job{ID: job.ID{1}})
			env.Body = append(env.Body, brokenJob(job.ID{2}, tt.add)...)
			env.Body = job.AppendJob(env.Body, &job.Job{ID: job.ID{3}})
			got := decodeSheaf(t, env)
			if len(got) != 3 || got[0].Err != nil || got[1].Err == nil || got[2].Err != nil {
				t.Fatalf("got %+v, want three jobs and only the second broken", got)
			}
			if e := got[1].Err; e.Code != tt.code || e.Field != tt.field {
				t.Errorf("got %s at %q (%v), want %s at %q", e.Code, e.Field, e, tt.code, tt.field)
			}
			if j := got[1].Job; j.ID != (job.ID{2}) || j.Tenant != "acme" || j.Model != "digits" || j.Lane != job.Bulk || j.Inputs != nil {
				t.Errorf("a broken job keeps its ID, lane, tenant and model and has no inputs, got %+v", j)
			}
		})
	}
}

func TestSheafMessageErrors(t *testing.T) {
	one, two := job.Job{ID: job.ID{1}}, job.Job{ID: job.ID{2}}
	sheaf := func(jobs ...job.Job) []byte { return sheafEnvelope(jobs...).Body }
	tests := []struct {
		name string
		body []byte
		jobs int
		want string
	}{
		{"empty", nil, 0, "no jobs"},
		{"garbage", []byte("garbage"), 0, "cut off or is not a sheaf"},
		{"cut off after a job", append(sheaf(one), 0x0a, 0x7f), 1, "cut off"},
		{"a job without an ID", append(sheaf(one, two), 0x0a, 0), 2, "1 of the sheaf's jobs have no ID"},
		{"an ID of 15 bytes", append(sheaf(one), "\x0a\x11\x0a\x0f123456789012345"...), 1, "no ID"},
		{"the nil ID", sheaf(job.Job{}), 0, "no ID"},
		{"the same ID twice", sheaf(one, two, one), 2, "the ID of one before"},
		{"too many jobs", sheaf(one, two, job.Job{ID: job.ID{3}}, job.Job{ID: job.ID{4}}), 3, "4 jobs, at most 3"},
	}
	lim := job.DefaultLimits()
	lim.MaxJobs = 3
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := job.DecodeMessage(envelope(tt.body, job.HeaderContentType, job.ContentTypeSheaf), lim)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that says %q", err, tt.want)
			}
			if len(got) != tt.jobs {
				t.Errorf("got %d jobs, want %d", len(got), tt.jobs)
			}
		})
	}
}

// A sheaf that cannot be read at all fails under the ID of its message, which is its first job's.
func TestSheafOfGarbageHasTheMessagesID(t *testing.T) {
	env := envelope([]byte("garbage"), job.HeaderContentType, job.ContentTypeSheaf, job.HeaderID, uuidA)
	got, err := job.DecodeMessage(env, job.DefaultLimits())
	if err == nil || len(got) != 1 || got[0].Job.ID != mustID(t, uuidA) || got[0].Err == nil || got[0].Err.Code != job.CodeMalformed {
		t.Errorf("got %+v, %v; want a malformed job under the message's ID, and an error", got, err)
	}
}

func TestSheafLimits(t *testing.T) {
	j := sampleJob(t)
	env := sheafEnvelope(j)
	tests := []struct {
		name string
		set  func(*job.Limits)
		code job.Code
	}{
		{"bytes", func(l *job.Limits) { l.MaxBytes = 100 }, job.CodeTooLarge},
		{"tensors", func(l *job.Limits) { l.MaxTensors = 3 }, job.CodeInvalid},
		{"rank", func(l *job.Limits) { l.MaxRank = 1 }, job.CodeInvalid},
		{"elements", func(l *job.Limits) { l.MaxElements = 1 }, job.CodeInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lim := job.DefaultLimits()
			tt.set(&lim)
			got, err := job.DecodeMessage(env, lim)
			if err != nil || len(got) != 1 || got[0].Err == nil || got[0].Err.Code != tt.code {
				t.Errorf("got %+v, %v; want one job that is %s", got, err, tt.code)
			}
		})
	}
}

func TestContainsJobInASheaf(t *testing.T) {
	jobs := oneRowJobs(t, 3)
	env := sheafEnvelope(jobs...)
	for i := range jobs {
		for k := range 4 {
			if got := job.ContainsJob(env, jobs[i].ID, k); got != (i == k) {
				t.Errorf("job %d at place %d: got %v", i, k, got)
			}
		}
	}
	if job.ContainsJob(env, job.ID{}, 7) || job.ContainsJob(env, jobs[0].ID, -1) {
		t.Error("found what is not there")
	}
}
