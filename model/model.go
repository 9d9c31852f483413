package model

import (
	"errors"
	"time"

	"github.com/sheafml/sheaf/job"
)

// TensorSpec is one input or output as the ONNX file declares it.
type TensorSpec struct {
	Name     string
	Datatype job.Datatype
	// Shape has -1 for a dimension that varies. It includes the batch axis of a batchable model.
	Shape []int64
}

// Signature is what a model takes and gives.
type Signature struct {
	Inputs  []TensorSpec
	Outputs []TensorSpec
	// Batchable says that the first dimension of every input and output varies: rows of several jobs may be run together.
	Batchable bool
}

// Check verifies that j's inputs and requested outputs fit the signature, each tensor by itself and all together, and
// returns how many rows the job has (1 if the model is not batchable). The error is a *job.Error that names the field.
func (s *Signature) Check(j *job.Job, lim job.Limits) (rows int, err error) { panic("stub") }

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
