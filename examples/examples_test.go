package examples_test

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/sheafml/sheaf/examples"
)

type heldOut struct {
	Input         []float64 `json:"input"`
	Label         int       `json:"label"`
	Predicted     *int      `json:"predicted"`
	Probabilities []float64 `json:"probabilities"`
}

func TestModelsHasTheModelOnDisk(t *testing.T) {
	models, err := examples.Models()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{examples.Digits + "/1/model.onnx", examples.Digits + "/model.yaml"}
	if err := fstest.TestFS(models, want...); err != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		got, err := fs.ReadFile(models, name)
		if err != nil {
			t.Fatal(err)
		}
		disk, err := os.ReadFile("models/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, disk) {
			t.Errorf("%s: the embedded file differs from the one on disk", name)
		}
	}
}

func TestDigitIsAHeldOutRowThatTheModelKnows(t *testing.T) {
	body, err := examples.Digit()
	if err != nil {
		t.Fatal(err)
	}
	var request struct {
		Input []float64 `json:"input"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	rows := readHeldOut(t, examples.Digits)
	i := slices.IndexFunc(rows, func(r heldOut) bool { return slices.Equal(r.Input, request.Input) })
	if i < 0 {
		t.Fatal("digit.json is none of the held-out rows")
	}
	if rows[i].Label != examples.DigitLabel || largest(rows[i].Probabilities) != examples.DigitLabel {
		t.Errorf("digit.json shows a %d and the model says %d; DigitLabel is %d",
			rows[i].Label, largest(rows[i].Probabilities), examples.DigitLabel)
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
	f, err := os.Open("models/" + model + "/heldout.jsonl")
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
