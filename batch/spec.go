package batch

// Spec is what a batch is to do. All but the input and the model are optional.
type Spec struct {
	// Endpoint is the route that each line is a request of: /v1/models/{model}/predict, where the answer is the
	// prediction, or …/jobs, where it has all outputs; either with /versions/{version}. It names the model, or the
	// model names it.
	Endpoint string `json:"endpoint,omitempty"`
	Model    string `json:"model,omitempty"`
	// Version "" is the one that is served when the batch is made; the batch keeps to it.
	Version string `json:"model_version,omitempty"`

	// InputFile is the ID of a file, and InputURL a place outside; one of them.
	InputFile string `json:"input_file_id,omitempty"`
	InputURL  string `json:"input_url,omitempty"`
	// OutputURL and ErrorURL are where the files are copied to at the end.
	OutputURL string `json:"output_url,omitempty"`
	ErrorURL  string `json:"error_url,omitempty"`
	// Plain says that lines are bodies, or bare arrays, without custom_id: that is the number of the line.
	Plain bool `json:"plain,omitempty"`

	// Window is the completion window, a duration such as "24h": what is not done by then is left.
	Window   string            `json:"completion_window,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Webhook is a URL that is told of the end.
	Webhook string `json:"webhook,omitempty"`

	// MaxRate bounds the lines a second; 0 is no bound.
	MaxRate float64 `json:"max_rate,omitempty"`
	// Windows are the times of day in which it may run, such as "22:00-06:00"; none is any time.
	Windows []string `json:"windows,omitempty"`
	// LinesPerJob is how many lines make one job; 0 leaves it to the server.
	LinesPerJob int `json:"lines_per_job,omitempty"`
	// Ordered keeps the lines of the output in the order of the input.
	Ordered bool `json:"ordered,omitempty"`
}

// Status is how far a batch has come. The words are OpenAI's.
type Status string

// The states of a batch. The last four are final.
const (
	Validating Status = "validating"
	InProgress Status = "in_progress"
	Finalizing Status = "finalizing"
	Cancelling Status = "cancelling"
	Completed  Status = "completed"
	Failed     Status = "failed" // the input could not be used at all
	Expired    Status = "expired"
	Cancelled  Status = "cancelled"
)

// Final reports whether nothing follows.
func (s Status) Final() bool {
	return s == Completed || s == Failed || s == Expired || s == Cancelled
}

// Batch is a batch as its owner sees it. Its JSON is OpenAI's batch object, with more members. Times are Unix seconds,
// 0 for what has not happened.
type Batch struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"` // "batch"
	Endpoint         string            `json:"endpoint"`
	Model            string            `json:"model"`
	Version          string            `json:"model_version,omitempty"`
	Errors           *Faults           `json:"errors,omitempty"`
	InputFile        string            `json:"input_file_id,omitempty"`
	InputURL         string            `json:"input_url,omitempty"`
	CompletionWindow string            `json:"completion_window"`
	Status           Status            `json:"status"`
	OutputFile       string            `json:"output_file_id,omitempty"` // at the end, if it has lines
	ErrorFile        string            `json:"error_file_id,omitempty"`  // at the end, if it has lines
	OutputURL        string            `json:"output_url,omitempty"`
	ErrorURL         string            `json:"error_url,omitempty"`
	CreatedAt        int64             `json:"created_at"`
	InProgressAt     int64             `json:"in_progress_at,omitempty"`
	ExpiresAt        int64             `json:"expires_at,omitempty"`
	FinalizingAt     int64             `json:"finalizing_at,omitempty"`
	CompletedAt      int64             `json:"completed_at,omitempty"`
	FailedAt         int64             `json:"failed_at,omitempty"`
	ExpiredAt        int64             `json:"expired_at,omitempty"`
	CancellingAt     int64             `json:"cancelling_at,omitempty"`
	CancelledAt      int64             `json:"cancelled_at,omitempty"`
	RequestCounts    Counts            `json:"request_counts"`
	Metadata         map[string]string `json:"metadata,omitempty"`

	// What follows is Sheaf's own.

	Rows        int64    `json:"rows"`                      // that were predicted
	Rate        float64  `json:"rate,omitempty"`            // lines a second, of late
	ETA         int64    `json:"eta_seconds,omitempty"`     // until the end, at that rate
	Paused      bool     `json:"paused,omitempty"`          // somebody asked for it
	Waiting     string   `json:"waiting,omitempty"`         // for what, such as its window
	OutputBytes int64    `json:"output_bytes"`              // so far
	ErrorBytes  int64    `json:"error_bytes"`               // so far
	DeletedAt   int64    `json:"files_expire_at,omitempty"` // when the batch and its files are deleted
	Webhook     string   `json:"webhook,omitempty"`
	MaxRate     float64  `json:"max_rate,omitempty"`
	Windows     []string `json:"windows,omitempty"`
}

// Counts are numbers of lines. Total is 0 until the input has been read once.
type Counts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// Faults are why a batch failed.
type Faults struct {
	Object string  `json:"object"` // "list"
	Data   []Fault `json:"data"`
}

// Fault is one reason.
type Fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	Line    int64  `json:"line,omitempty"`
}

// File is a file that was uploaded, or one that a batch has written. Its JSON is OpenAI's file object.
type File struct {
	ID        string `json:"id"`
	Object    string `json:"object"` // "file"
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
}

// Purposes of files.
const (
	PurposeBatch  = "batch"        // an input
	PurposeOutput = "batch_output" // what a batch has written
)

// Output is one of the two files that a batch writes.
type Output uint8

// The two files.
const (
	Results Output = iota
	Errors
)

// Lines are whole lines of an output file.
type Lines struct {
	Data []byte
	Next int64 // where the file goes on, for another Follow
}
