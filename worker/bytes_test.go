package worker

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// echo is a model that gives back its texts, two to a row, and as a second output the length of each row's first.
type echo struct{ widen bool }

func (*echo) Close() error { return nil }

func (e *echo) Run(_ context.Context, b *model.Batch) ([]job.Tensor, error) {
	data := bytes.Join(b.Inputs[0].Parts, nil)
	texts := job.Tensor{Name: "texts", Datatype: job.Bytes, Shape: []int64{int64(b.Rows), 2}, Data: data}
	lengths := job.Tensor{Name: "lengths", Datatype: job.Uint8, Shape: []int64{int64(b.Rows)}}
	for rest := data; len(rest) > 0; {
		lengths.Data = append(lengths.Data, rest[0])
		rest = rest[4+int(rest[0]):]
		rest = rest[4+int(rest[0]):]
	}
	if e.widen && b.Rows > 1 { // a shape that depends on the batch
		lengths.Shape = []int64{int64(b.Rows), int64(b.Rows)}
		lengths.Data = bytes.Repeat(lengths.Data, b.Rows)
	}
	all := []job.Tensor{texts, lengths}
	if b.Outputs == nil {
		return all, nil
	}
	var wanted []job.Tensor
	for _, i := range b.Outputs {
		wanted = append(wanted, all[i])
	}
	return wanted, nil
}

func echoModel(maxRows int, e *echo) Model {
	return Model{
		Info: model.Info{Name: "double", Version: "1", Platform: model.PlatformONNX, Signature: model.Signature{
			Batchable: true,
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.Bytes, Shape: []int64{-1, 2}}},
			Outputs: []model.TensorSpec{
				{Name: "texts", Datatype: job.Bytes, Shape: []int64{-1, 2}}, {Name: "lengths", Datatype: job.Uint8, Shape: []int64{-1, -1}},
			},
		}},
		MaxRows: maxRows, NewInstance: func() (Instance, error) { return e, nil },
	}
}

// textJob has so many rows of two texts, of lengths that differ from row to row and from job to job.
func textJob(t *testing.T, seed, rows int) job.Job {
	t.Helper()
	var data []byte
	for i := range rows {
		data = job.AppendBytesElement(data, []byte(strings.Repeat("a", (seed*7+i*3)%50)))
		data = job.AppendBytesElement(data, fmt.Appendf(nil, "job %d row %d", seed, i))
	}
	return job.Job{
		ID: newID(t), Tenant: "default", Model: "double", CreatedAt: time.Now(),
		Inputs: []job.Tensor{{Name: "x", Datatype: job.Bytes, Shape: []int64{int64(rows), 2}, Data: data}},
	}
}

func TestTextsAreDividedByRows(t *testing.T) {
	inRig(t, func(r *rig) {
		r.start(echoModel(8, &echo{}))
		var jobs []job.Job
		for i := range 30 {
			j := textJob(t, i, 1+i)
			if i%3 == 1 {
				j.Outputs = []string{"lengths", "texts"}
			}
			jobs = append(jobs, j)
		}
		r.wantAcked(r.publish(job.Interactive, jobs...))
		for i, j := range jobs {
			got := r.store.result(t, j.ID)
			if got == nil || got.State != job.Succeeded {
				t.Fatalf("job %d: got %+v, want succeeded", i, got)
			}
			texts, lengths := &got.Outputs[0], &got.Outputs[1]
			if i%3 == 1 {
				texts, lengths = lengths, texts
			}
			if !bytes.Equal(texts.Data, j.Inputs[0].Data) || texts.Name != "texts" {
				t.Fatalf("job %d did not get its own texts", i)
			}
			for row, n := range lengths.Data {
				if want := (i*7 + row*3) % 50; int(n) != want {
					t.Fatalf("job %d, row %d: length %d, want %d", i, row, n, want)
				}
			}
			if len(lengths.Data) != i+1 || lengths.Shape[0] != int64(i+1) {
				t.Fatalf("job %d has %d lengths of shape %v, want %d", i, len(lengths.Data), lengths.Shape, i+1)
			}
		}
		_ = r.shutdown()
	})
}

func TestPiecesThatDoNotFitTogether(t *testing.T) {
	inRig(t, func(r *rig) {
		r.start(echoModel(4, &echo{widen: true}))
		j := textJob(t, 1, 9) // pieces of 4, 4 and 1 rows
		r.wantAcked(r.publish(job.Interactive, j))
		if got := r.wantFailed(j, job.CodeInference); !strings.Contains(got.Error.Detail, "lengths") {
			t.Errorf("the error %q does not name the output", got.Error.Detail)
		}
		_ = r.shutdown()
	})
}

func TestLongErrorOfTheRuntimeIsShortened(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(func(*model.Batch, []float32) error { return fmt.Errorf("%s", "x"+strings.Repeat("ü", 5000)) })
		j := doubleJob(t, 1)
		r.publish(job.Interactive, j)
		if n := len(r.wantFailed(j, job.CodeInference).Error.Detail); n > 1100 || n < 900 {
			t.Errorf("the error has %d bytes, want about 1000", n)
		}
		_ = r.shutdown()
	})
}
