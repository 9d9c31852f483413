package onnx

import (
	"fmt"
	"strings"

	"github.com/sheafml/sheaf/model"
)

// The binding passes on the text of ONNX Runtime's errors and not their codes, so the text is what there is to go by.

// loadError says what to do about a file that the runtime refuses.
func loadError(path string, g *graph, err error) error {
	text := trim(err)
	lower := strings.ToLower(text)
	switch {
	case exhausted(lower):
		return fmt.Errorf("%s: %w: %s", path, model.ErrResources, text)
	case strings.Contains(lower, "ir version") || strings.Contains(lower, "ir_version"):
		return fmt.Errorf("%s was exported in ONNX IR version %d, which is newer than ONNX Runtime %s reads: re-export with an older onnx package, or set model.ir_version before saving (%s)",
			path, g.irVersion, LibraryVersion, text)
	case strings.Contains(lower, "opset"):
		return fmt.Errorf("%s uses opset %d, which ONNX Runtime %s does not know: re-export with a lower opset_version (target_opset in skl2onnx) (%s)",
			path, g.opset, LibraryVersion, text)
	case strings.Contains(lower, "is not a registered function/op") || strings.Contains(lower, "no op registered"):
		return fmt.Errorf("%s uses an operator that ONNX Runtime %s does not have: re-export the model without custom operators (%s)", path, LibraryVersion, text)
	case strings.Contains(lower, "external"):
		return fmt.Errorf("%s: the file with its weights is missing, damaged or too short: copy it there again (%s)", path, text)
	default:
		return fmt.Errorf("%s: ONNX Runtime refuses the model: %s", path, text)
	}
}

// rowsHint says what to do about a model whose outputs do not follow the batch axis.
const rowsHint = "set batching.max_rows to 1 in model.yaml, or re-export the model so that row i of every output belongs to row i of the inputs"

// runError classifies the error of a run.
func (m *Model) runError(err error) error {
	text := trim(err)
	if exhausted(strings.ToLower(text)) {
		return fmt.Errorf("%w: %s", model.ErrResources, text)
	}
	if otherShape(text) {
		if !m.plan.batchable {
			return fmt.Errorf("an output has another shape than the model declares: re-export it with its true shapes (%s)", text)
		}
		return fmt.Errorf("an output has another shape than the model declares: %w: %s (%s)", model.ErrRows, rowsHint, text)
	}
	return fmt.Errorf("ONNX Runtime: %s", text)
}

// otherShape reports whether the text says that an output does not fit the memory that was made for it. The runtime says
// so in three ways: before the run, and from two kinds of operators.
func otherShape(text string) bool {
	return strings.Contains(text, "invalid dimensions for output") || strings.Contains(text, "shape verification failed") ||
		strings.Contains(text, "The output OrtValue provided for output")
}

// exhausted reports whether the text, in lower case, says that memory ran out.
func exhausted(lower string) bool {
	for _, mark := range []string{"failed to allocate memory", "bad_alloc", "bad allocation", "out of memory", "out_of_memory", "cannot allocate memory"} {
		if strings.Contains(lower, mark) {
			return true
		}
	}
	return false
}

// trim takes the binding's own words off an error.
func trim(err error) string {
	text := err.Error()
	for _, prefix := range []string{"Error running network: ", "Error creating C session from file: ", "Error loading temporary session: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}
