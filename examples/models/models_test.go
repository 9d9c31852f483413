package demomodels_test

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	demomodels "github.com/sheafml/sheaf/examples/models"
)

type heldOut struct {
	Input         []float64 `json:"input"`
	Label         int       `json:"label"`
	Predicted     *int      `json:"predicted"`
	Probabilities []float64 `json:"probabilities"`
}

func TestFilesAreThoseOnDisk(t *testing.T) {
	want := []string{demomodels.Digits + "/1/model.onnx", demomodels.Digits + "/model.yaml"}
	if err := fstest.TestFS(demomodels.Files(), want...); err != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		got, err := fs.ReadFile(demomodels.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		disk, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, disk) {
			t.Errorf("%s: the embedded file differs from the one on disk", name)
		}
	}
}

func TestExampleRequestIsTheFileAndAHeldOutRow(t *testing.T) {
	file, err := os.ReadFile("../digit.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(file)); got != demomodels.ExampleRequest {
		t.Errorf("examples/digit.json is %s, ExampleRequest is %s", got, demomodels.ExampleRequest)
	}
	var request struct {
		Input []float64 `json:"input"`
	}
	if err := json.Unmarshal([]byte(demomodels.ExampleRequest), &request); err != nil {
		t.Fatal(err)
	}
	rows := readHeldOut(t, demomodels.Digits)
	i := slices.IndexFunc(rows, func(r heldOut) bool { return slices.Equal(r.Input, request.Input) })
	if i < 0 {
		t.Fatal("the example is none of the held-out rows")
	}
	if rows[i].Label != demomodels.ExampleDigit || largest(rows[i].Probabilities) != demomodels.ExampleDigit {
		t.Errorf("the example shows a %d and the model says %d; ExampleDigit is %d",
			rows[i].Label, largest(rows[i].Probabilities), demomodels.ExampleDigit)
	}
}

// The figures of the model cards.
func TestAccuracyOnHeldOutRows(t *testing.T) {
	for _, tt := range []struct {
		model                         string
		rows, right, inputs, outcomes int
	}{
		{"digits", 360, 353, 64, 10},
		{"tumor", 142, 135, 30, 2},
	} {
		t.Run(tt.model, func(t *testing.T) {
			rows := readHeldOut(t, tt.model)
			right := 0
			for i, r := range rows {
				if len(r.Input) != tt.inputs || len(r.Probabilities) != tt.outcomes {
					t.Fatalf("line %d: %d inputs and %d probabilities, want %d and %d",
						i+1, len(r.Input), len(r.Probabilities), tt.inputs, tt.outcomes)
				}
				if r.Predicted != nil && *r.Predicted != largest(r.Probabilities) {
					t.Errorf("line %d: predicted %d, but the largest probability is that of %d",
						i+1, *r.Predicted, largest(r.Probabilities))
				}
				if largest(r.Probabilities) == r.Label {
					right++
				}
			}
			if len(rows) != tt.rows || right != tt.right {
				t.Errorf("%d of %d rows right, the model card says %d of %d", right, len(rows), tt.right, tt.rows)
			}
		})
	}
}

func readHeldOut(t *testing.T, model string) []heldOut {
	t.Helper()
	f, err := os.Open(model + "/heldout.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []heldOut
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r heldOut
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s, line %d: %v", model, len(rows)+1, err)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func largest(values []float64) int { return slices.Index(values, slices.Max(values)) }
