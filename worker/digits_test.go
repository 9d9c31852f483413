package worker_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
	"github.com/sheafml/sheaf/worker"
)

const (
	models      = "../examples/models"
	libraryPath = "../bin/lib"
)

// digits loads the demo model.
func digits(t testing.TB, instances int) worker.Model {
	t.Helper()
	library, err := onnx.FindLibrary(libraryPath)
	if err != nil {
		t.Fatalf("%v\nrun make deps", err)
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	versions, err := model.Scan(models)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		if v.Name != "digits" {
			continue
		}
		m, err := rt.Load(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		return worker.Model{Info: m.Info(), Instances: instances, NewInstance: func() (worker.Instance, error) { return m.NewInstance() }}
	}
	t.Fatal("there is no model digits in " + models)
	return worker.Model{}
}

// heldOut is a row that the model was not trained on, and what it makes of it.
type heldOut struct {
	Input         []float32 `json:"input"`
	Probabilities []float32 `json:"probabilities"`
}

func heldOutDigits(t testing.TB) []heldOut {
	t.Helper()
	file, err := os.ReadFile(models + "/digits/heldout.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var rows []heldOut
	for line := range bytes.Lines(file) {
		var row heldOut
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func digitJob(t testing.TB, row []float32) *job.Job {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, v := range row {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return &job.Job{
		ID: id, Tenant: job.DefaultTenant, Model: "digits", CreatedAt: time.Now(),
		Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, int64(len(row))}, Data: data}},
	}
}

func TestDigitsThroughONNXRuntime(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	results := openRedis(t, testserver.Redis(t))
	m := digits(t, 2)
	p := run(t, worker.DefaultConfig(), q, results, m)
	rows := heldOutDigits(t)
	jobs := make([]*job.Job, len(rows))
	for i := range rows {
		jobs[i] = digitJob(t, rows[i].Input)
	}
	publish(t, q, jobs)
	batched := false
	for i, j := range jobs {
		r := await(t, results, j.ID)
		if r.State != job.Succeeded {
			t.Fatalf("digit %d is %s: %v", i, r.State, r.Error)
		}
		batched = batched || r.Timings.BatchRows > 1
		for k, want := range rows[i].Probabilities {
			got := math.Float32frombits(binary.LittleEndian.Uint32(r.Outputs[0].Data[4*k:]))
			if math.Abs(float64(got-want)) > 1e-5 {
				t.Fatalf("digit %d, class %d: got %v, want %v", i, k, got, want)
			}
		}
	}
	if !batched {
		t.Error("no two digits were run together")
	}
	if err := p.stop(); err != nil { // the instances close before the runtime
		t.Error(err)
	}
}
