package httpapi

import (
	"net/http"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// problemType is one kind of error. Its URI is /problems/<code>, and it is stable: clients switch on it.
type problemType struct {
	code   job.Code
	status int
	title  string
	text   string // what it means and what to do, served at its URI
}

// Codes that only the HTTP API has. The others are those of packages job and gateway.
const (
	codeNotFound         job.Code = "not-found"
	codeMethodNotAllowed job.Code = "method-not-allowed"
	codeUnknownLetter    job.Code = "unknown-dead-letter"
	codeCountChanged     job.Code = "count-changed"
	codeUnknownBatch     job.Code = "unknown-batch"
	codeUnknownFile      job.Code = "unknown-file"
	codeBatchFinished    job.Code = "batch-finished"
	codeFileInUse        job.Code = "file-in-use"
	codeTooManyBatches   job.Code = "too-many-batches"
)

// ofJob is the type of an error that a job can have too; the job says status and title.
func ofJob(code job.Code, text string) problemType {
	status, title := code.Problem()
	return problemType{code, status, title, text}
}

var problemTypes = [...]problemType{
	ofJob(job.CodeMalformed,
		"The body, the query or a header is not in the form that the route takes. Correct the request; field says where.",
	),
	ofJob(job.CodeInvalid,
		"The request can be read, but it is not what the model takes: a name, a datatype, a shape or a value is wrong. "+
			"field says where, detail what was expected and what was found, expected what the model takes.",
	),
	ofJob(job.CodeTooLarge,
		"The body, or the job made of it, is larger than the limit. Split it into several jobs.",
	),
	ofJob(job.CodeUnknownModel,
		"No worker has announced a model of this name and version. GET /v1/models lists those that are announced.",
	),
	ofJob(job.CodeInference,
		"The job reached the model and the model refused this input. The same input will fail again.",
	),
	ofJob(job.CodeExhausted,
		"The job was tried as often as the settings allow and never finished, for example because workers died at it. "+
			"It is kept among the dead letters for the operator.",
	),
	ofJob(job.CodeExpired,
		"The job was not computed before its deadline and was dropped. Submit again with a later Sheaf-Deadline.",
	),
	ofJob(job.CodeCanceled,
		"Somebody canceled the job before it had a result.",
	),
	ofJob(job.CodeInternal,
		"A defect of the server. Its log has the details; the request may be tried again.",
	),
	{
		codeNotFound, http.StatusNotFound, "No such route",
		"Nothing is served under this path. GET / lists the routes.",
	},
	{
		codeMethodNotAllowed, http.StatusMethodNotAllowed, "The route does not take this method",
		"The path exists but not with this method. The header Allow lists the methods that it takes.",
	},
	{
		gateway.CodeMediaType, http.StatusUnsupportedMediaType, "The body is of a media type that is not taken",
		"Bodies are JSON in UTF-8, not compressed: send Content-Type: application/json. Those of …/infer may go on with binary " +
			"data, as application/octet-stream; many requests are JSON lines, as application/x-ndjson, and files come as " +
			"multipart/form-data.",
	},
	{
		gateway.CodeSlowBody, http.StatusRequestTimeout, "The body did not arrive in time",
		"The body of the request took longer than the limit to arrive. Send it again.",
	},
	{
		gateway.CodeUnknownJob, http.StatusNotFound, "No such job",
		"There is no job under this id: it was never submitted, or its result has been deleted after its time to live. " +
			"An unfinished job is found only by the whole id that its submit returned.",
	},
	{
		gateway.CodeFinished, http.StatusConflict, "The job is finished",
		"A finished job cannot be canceled: its result stands. job_status says how it ended.",
	},
	{
		gateway.CodeUnfinished, http.StatusConflict, "The job is not finished",
		"The outcome of a job can be delivered once more when there is one. job_status says where it is.",
	},
	{
		gateway.CodeNoWebhook, http.StatusConflict, "The job has no webhook",
		"The job was submitted without a webhook, so there is nobody to deliver its outcome to. Ask for it with GET.",
	},
	{
		gateway.CodeTenantFull, http.StatusTooManyRequests, "Too many of your jobs wait",
		"As many jobs as allowed wait for this model already. Try again after Retry-After seconds.",
	},
	{
		gateway.CodeFull, http.StatusServiceUnavailable, "The queue is full",
		"More jobs wait than the queue may hold. Try again after Retry-After seconds.",
	},
	{
		gateway.CodeBusy, http.StatusServiceUnavailable, "The server has too many submits in hand",
		"This server handles as many submits at a time as it may. Nothing was accepted. Try again after Retry-After seconds; " +
			"another server may take it at once.",
	},
	{
		gateway.CodeOverloaded, http.StatusServiceUnavailable, "The job would not be done before its deadline",
		"Going by what waits and by how fast it is worked off, the job's deadline (Sheaf-Deadline, or the model's own) would " +
			"pass before its turn. It was not accepted, so that it does not take the time of those that can be done. Try again " +
			"after Retry-After seconds with a new deadline, or at once with a later one.",
	},
	{
		gateway.CodeUnavailable, http.StatusServiceUnavailable, "A service behind the API does not answer",
		"The queue or the result store is out of reach. Try again after Retry-After seconds; with an Idempotency-Key a " +
			"submit that was accepted all the same is not computed twice.",
	},
	{
		gateway.CodeTooManyWaiters, http.StatusServiceUnavailable, "Too many requests wait for results",
		"The server holds as many waiting requests as it may. Poll without wait, or try again after Retry-After seconds.",
	},
	{
		gateway.CodeUnauthorized, http.StatusUnauthorized, "It is not known who is calling",
		"The route takes only callers that say who they are: send Authorization: Bearer with an API key, or with a token of the " +
			"issuer that the server trusts. A key may be revoked or expired; detail says what is wrong.",
	},
	{
		gateway.CodeForbidden, http.StatusForbidden, "The caller may not do this",
		"The key or the token does not have the scope that the route needs. Or the route is for administrators: where callers do " +
			"not say who they are, it is served only to who is on the same machine as a server that listens on loopback.",
	},
	{
		gateway.CodeRateLimited, http.StatusTooManyRequests, "The key has submitted as many jobs as it may",
		"A key, or the subject of a token, may submit so many jobs a second. Nothing was accepted. Try again after Retry-After " +
			"seconds; RateLimit says how many jobs are left, and RateLimit-Policy how many there are.",
	},
	{
		codeUnknownLetter, http.StatusNotFound, "No such dead letter",
		"There is no dead letter of this number. It was requeued or purged, or made room for newer ones.",
	},
	{
		codeCountChanged, http.StatusConflict, "The count is another than the one confirmed",
		"A requeue or a purge acts on what was counted and shown. The member confirm has to say how many dead letters match; " +
			"count says how many there are now. Look again, and confirm that.",
	},
	{
		codeUnknownBatch, http.StatusNotFound, "No such batch",
		"There is no batch under this id: it was never made, or it has been deleted some time after its end.",
	},
	{
		codeUnknownFile, http.StatusNotFound, "No such file",
		"There is no file under this id: it was never uploaded, or it has been deleted; files are not kept for ever.",
	},
	{
		codeBatchFinished, http.StatusConflict, "The batch is finished",
		"A batch that has ended cannot be canceled, paused or resumed: its results stand.",
	},
	{
		codeFileInUse, http.StatusConflict, "A batch reads the file",
		"The file is the input of a batch that is not finished. Cancel the batch, or delete the file when it has ended.",
	},
	{
		codeTooManyBatches, http.StatusTooManyRequests, "You have as many batches or files as you may",
		"As many of your batches as allowed are not finished, or as many of your files are kept. Try again when one has ended, or cancel " +
			"a batch, or delete a file.",
	},
	{
		gateway.CodeKeyReused, http.StatusUnprocessableEntity, "The Idempotency-Key was used for another request",
		"A request with an Idempotency-Key that was used before is the same job, so it has to ask for the same: model, version, " +
			"inputs, outputs, parameters and webhook. Send another request under a key of its own.",
	},
	{
		gateway.CodeUnsupported, http.StatusBadRequest, "The server does not do this",
		"The Open Inference Protocol, or a server that speaks it, knows what the request asks for, but Sheaf does not: " +
			"sequences, classification, shared memory, or loading models over HTTP. detail says what to do instead.",
	},
	{
		gateway.CodeTimeout, http.StatusGatewayTimeout, "The prediction was not ready in time",
		"The job goes on. Poll the path in Location, or submit with a longer Prefer: wait.",
	},
}

// typeOf returns the problem type of a code; a code that it does not know, as a newer worker may write, is internal.
func typeOf(code job.Code) *problemType {
	var internal *problemType
	for i := range problemTypes {
		t := &problemTypes[i]
		if t.code == code {
			return t
		}
		if t.code == job.CodeInternal {
			internal = t
		}
	}
	return internal
}

func (t *problemType) uri() string { return "/problems/" + string(t.code) }
