package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// PlatformONNX is the Info.Platform of a model that ONNX Runtime runs; the name is the Open Inference Protocol's.
const PlatformONNX = "onnxruntime_onnx"

// Info is what a worker announces of a model it serves, and what producers validate against. It travels as JSON.
type Info struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"`
	Description string            `json:"description,omitempty"`
	Platform    string            `json:"platform"` // "onnxruntime_onnx"
	Signature   Signature         `json:"signature"`
	Digest      string            `json:"digest"` // sha256 of the ONNX file, hex
	MaxRows     int               `json:"max_rows"`
	Prediction  string            `json:"prediction,omitempty"` // the output that /predict answers with; empty: the first
	ResultTTL   time.Duration     `json:"result_ttl,omitempty"` // 0: the result store's default
	Deadline    time.Duration     `json:"deadline,omitempty"`   // 0: none
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// Batch is what one run computes: parts of one or more jobs, put together along the batch axis.
type Batch struct {
	Rows   int          // rows in all; 1 for a model that is not batchable
	Inputs []BatchInput // in the order of the signature
	// Outputs are indices into Signature.Outputs; nil is all of them.
	Outputs []int
}

// BatchInput is one input of a batch. The concatenation of Parts is the raw data of Shape.
type BatchInput struct {
	Shape []int64 // whole shape, batch axis included
	Parts [][]byte
}

// ErrResources marks an error of a run that may pass, such as memory running out: it is worth another attempt.
var ErrResources = errors.New("out of resources")

// ErrRows marks an error of a run whose outputs have another number of rows than the batch: the model does not treat its
// rows one by one. A run of one row may succeed.
var ErrRows = errors.New("the outputs do not follow the batch axis")

// Key returns the key under which the model is announced, "digits/1".
func (i *Info) Key() string { return i.Name + "/" + i.Version }

// ParseKey is the inverse of Info.Key.
func ParseKey(key string) (name, version string, err error) {
	name, version, ok := strings.Cut(key, "/")
	if !ok || !job.ValidName(name) || !validVersion(version) {
		return "", "", fmt.Errorf("%q is not the key of an announced model: expected name/version, such as digits/1", key)
	}
	return name, version, nil
}

// Encode returns the announcement, which ParseInfo reads.
func (i *Info) Encode() ([]byte, error) {
	if err := i.Validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode the announcement of %s: %w", i.Key(), err)
	}
	return b, nil
}

// ParseInfo reads an announcement. Fields that it does not know are ignored: a newer worker may have written them.
func ParseInfo(b []byte) (Info, error) {
	var i Info
	if err := json.Unmarshal(b, &i); err != nil {
		return Info{}, fmt.Errorf("read the announcement of a model: %w", err)
	}
	if err := i.Validate(); err != nil {
		return Info{}, err
	}
	return i, nil
}

// Validate names every fault of an announcement at once.
func (i *Info) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("announcement of model %q: "+format, append([]any{i.Name}, args...)...))
	}
	if !job.ValidName(i.Name) {
		fault("the name must be 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit")
	}
	if !validVersion(i.Version) {
		fault("version is %q: expected a positive integer", i.Version)
	}
	if i.MaxRows < 1 {
		fault("max_rows is %d: it must be positive", i.MaxRows)
	}
	if i.ResultTTL < 0 || i.Deadline < 0 {
		fault("result_ttl and deadline must not be negative")
	}
	if err := i.Signature.validate(); err != nil {
		fault("%w", err)
	}
	if i.Prediction != "" && i.Signature.OutputIndex(i.Prediction) < 0 {
		fault("prediction is %q, which is not an output: expected one of %s", i.Prediction, names(i.Signature.Outputs))
	}
	return errors.Join(errs...)
}

// PredictionIndex returns the index of the output that /predict answers with.
func (i *Info) PredictionIndex() int { return max(0, i.Signature.OutputIndex(i.Prediction)) }

// validVersion reports whether s is a positive integer in its shortest form, so that a version has one spelling.
func validVersion(s string) bool {
	n, err := strconv.ParseUint(s, 10, 63)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// compareVersions orders versions that validVersion accepts by their number.
func compareVersions(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
