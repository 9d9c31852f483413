package job

import "time"

// Content types of a message body on NATS and of a request over HTTP.
const (
	ContentTypeSheaf    = "application/vnd.sheaf.v1+protobuf" // sheaf.v1.Sheaf: one or more jobs
	ContentTypeProtobuf = "application/x-protobuf"            // inference.ModelInferRequest
	ContentTypeJSON     = "application/json"                  // the Open Inference Protocol's REST body
	ContentTypeProblem  = "application/problem+json"          // RFC 9457
)

// Headers of a message on NATS.
const (
	HeaderID           = "Nats-Msg-Id"         // the job ID, a UUID
	HeaderContentType  = "Content-Type"        // one of the content types above
	HeaderDeadline     = "Sheaf-Deadline"      // RFC 3339, or milliseconds since the Unix epoch
	HeaderReply        = "Sheaf-Reply"         // an inbox that is sent the outcome
	HeaderModelVersion = "Sheaf-Model-Version" // the version wanted
	HeaderTraceParent  = "traceparent"         // W3C trace context
	HeaderState        = "Sheaf-State"         // on an outcome: the terminal state
)

// Envelope is a message as the queue delivers it, before anything in it is believed.
type Envelope struct {
	Lane      Lane
	Tenant    string
	Model     string
	Published time.Time               // when JetStream stored it
	Header    func(key string) string // "" if absent
	Body      []byte
}

// Decoded is one job of a message. Where Err is set only the ID (and Lane, Tenant, Model from the subject) can be
// relied on: the job gets a failed record that says Err.
type Decoded struct {
	Job Job
	Err *Error
}

// DecodeMessage reads every job of a message. The tensors of the jobs alias env.Body.
// The error says that some part of the message could not be attributed to any job: what could be is returned all
// the same, and the message belongs among the dead letters.
func DecodeMessage(env *Envelope, lim Limits) ([]Decoded, error) { panic("stub") }

// AppendJob appends j, as one `jobs` field of sheaf.v1.Sheaf, to dst. The concatenation of such fields is a sheaf.
// Lane, tenant and model are not in it: the subject of the message says them.
func AppendJob(dst []byte, j *Job) []byte { panic("stub") }

// ContainsJob reports whether the message of that content type carries the job at that place.
func ContainsJob(env *Envelope, id ID, index int) bool { panic("stub") }

// DecodeRequestJSON reads a REST inference request of the Open Inference Protocol into j: version, request ID,
// parameters, inputs and outputs. A top-level member that the protocol does not know is offered to extra, if that is
// not nil, as its raw JSON. The error is an *Error.
func DecodeRequestJSON(body []byte, j *Job, lim Limits, extra func(name string, value []byte) error) error {
	panic("stub")
}

// DecodeRequestProtobuf reads an inference.ModelInferRequest into j. Raw contents alias body. The error is an *Error.
func DecodeRequestProtobuf(body []byte, j *Job, lim Limits) error { panic("stub") }

// ScanArray reads a nested (or flat) JSON array, or a bare scalar, of one datatype and infers its shape: a rectangular
// array of any rank up to lim.MaxRank. It returns the raw tensor data. field is the path that an error names.
// The error is an *Error.
func ScanArray(field string, src []byte, dt Datatype, lim Limits) (shape []int64, data []byte, err error) {
	panic("stub")
}

// AppendResponseJSON appends the REST inference response of a succeeded result.
func AppendResponseJSON(dst []byte, r *Result) []byte { panic("stub") }

// AppendResponseProtobuf appends the inference.ModelInferResponse of a succeeded result, with raw contents.
func AppendResponseProtobuf(dst []byte, r *Result) []byte { panic("stub") }

// AppendTensorJSON appends {"name","shape","datatype","data"} with flat data.
func AppendTensorJSON(dst []byte, t *Tensor) []byte { panic("stub") }

// AppendNestedJSON appends the data of t as JSON nested by its shape, as numpy's tolist() would give it.
func AppendNestedJSON(dst []byte, t *Tensor) []byte { panic("stub") }

// AppendRecord appends the terminal record of r: its version as one byte, then sheaf.v1.Record as protobuf.
// The ID is not in it: it is the record's key.
func AppendRecord(dst []byte, r *Result) []byte { panic("stub") }

// DecodeRecord is the inverse of AppendRecord. Output tensors alias record.
func DecodeRecord(id ID, record []byte) (Result, error) { panic("stub") }
