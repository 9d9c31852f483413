package job_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheafml/sheaf/job"
)

func failedResult(tb testing.TB) job.Result {
	tb.Helper()
	r := sampleResult(tb)
	r.State, r.Outputs = job.Failed, nil
	r.Error = job.Invalidf("inputs[0].shape", "expected 64 columns, got 63 “é”")
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	full := sampleResult(t)
	expired := job.Result{ID: full.ID, State: job.Expired, Error: &job.Error{Code: job.CodeExpired}}
	canceled := job.Result{ID: full.ID, State: job.Canceled}
	for _, want := range []job.Result{full, failedResult(t), expired, canceled} {
		got, err := job.DecodeRecord(want.ID, job.AppendRecord([]byte("before"), &want)[len("before"):])
		if err != nil {
			t.Fatalf("%s: %v", want.State, err)
		}
		if d := diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", want.State, d)
		}
	}
}

// What cannot be said on the wire must not make a record that cannot be read.
func TestRecordOfOddValues(t *testing.T) {
	r := job.Result{
		State: job.Failed, Attempts: -1, Timings: job.Timings{Queue: -time.Second, BatchRows: -4},
		CreatedAt: time.Unix(-100, 0), FinishedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC),
		Error: &job.Error{Code: job.CodeInternal, Detail: "broken \xff text"},
	}
	got, err := job.DecodeRecord(r.ID, job.AppendRecord(nil, &r))
	if err != nil {
		t.Fatal(err)
	}
	if got.Attempts != 0 || got.Timings != (job.Timings{}) || got.Error.Detail != "broken \uFFFD text" {
		t.Errorf("got %+v", got)
	}
	if got.CreatedAt.Year() != 1970 || got.FinishedAt.Year() != 9999 {
		t.Errorf("times are %v and %v, want them in range", got.CreatedAt, got.FinishedAt)
	}
}

func TestRecordThatIsRefused(t *testing.T) {
	good := sampleResult(t)
	record := job.AppendRecord(nil, &good)
	tests := []struct {
		name   string
		record []byte
		want   string
	}{
		{"empty", nil, "empty"},
		{"newer version", append([]byte{2}, record[1:]...), "version 2, this program reads version 1"},
		{"version 0", []byte{0, 1, 2}, "not a record"},
		{"cut off", record[:len(record)-1], "cut off"},
		{"no state", []byte{1}, `"unknown" is not a terminal state`},
		{"queued", []byte{1, 0x08, 1}, `"queued" is not a terminal state`},
		{"unknown state", []byte{1, 0x08, 0xff, 0x01}, "not a terminal state"},
		{"data shorter than the shape", []byte{1, 0x08, 3, 0x32, 7, 0x0a, 1, 'y', 0x10, 11, 0x18, 2}, "outputs[0].data"},
		{"text not UTF-8", []byte{1, 0x12, 1, 0xff}, "tenant"},
		{"time out of range", append([]byte{1, 0x48}, protowire.AppendVarint(nil, 1<<63)...), "created_unix_ms"},
		{"duration out of range", append([]byte{1, 0x58}, protowire.AppendVarint(nil, 1<<63)...), "queue_us"},
		{"error cut off", []byte{1, 0x3a, 2, 0x0a, 5}, "sheaf.v1.Error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := job.DecodeRecord(good.ID, tt.record)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v; want an error that says %q", got, err, tt.want)
			}
		})
	}
}

func TestRecordSkipsUnknownFields(t *testing.T) {
	want := sampleResult(t)
	record := job.AppendRecord(nil, &want)
	record = protowire.AppendTag(record, 1000, protowire.BytesType)
	record = protowire.AppendString(record, "from a newer worker")
	record = protowire.AppendTag(record, 1001, protowire.StartGroupType)
	record = protowire.AppendTag(record, 1001, protowire.EndGroupType)
	record = protowire.AppendTag(record, 2, protowire.VarintType) // the number of the tenant, another type
	record = protowire.AppendVarint(record, 5)
	got, err := job.DecodeRecord(want.ID, record)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
