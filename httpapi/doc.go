// Package httpapi is the HTTP shim: it turns requests into jobs, and answers what became of them. It holds no state of
// its own: package gateway answers for jobs, out of the queue and the result store, so any replica serves any ticket, and
// a replica that dies takes no job with it.
//
//	POST   /v1/models/{model}/jobs       submit: 202 and a ticket; with "Prefer: wait=5" 200 when done in time
//	GET    /v1/jobs/{id}?wait=20s        a job: its state, or its result; wait holds the answer until it is finished
//	DELETE /v1/jobs/{id}                 cancel
//	POST   /v1/models/{model}/predict    submit and wait in one call: {"input": …} gives {"prediction": …}
//	POST   /v1/models/{model}/bulk       submit many: a line of JSON for each, answered while the body still comes
//	POST   /v1/jobs/lookup               many jobs at once, a line of JSON for each
//	GET    /v1/jobs/{id}/events          server-sent events of a job; /v1/jobs/events of several
//	POST   /v1/files, /v1/batches        files of requests, run on the server: the routes and objects of OpenAI's batches
//	GET    /v1/batches/{batch}/results   their answers, also while they come
//	GET    /v1/models, /v1/models/{model}
//	POST   /v2/models/{model}/infer      submit and wait, by the Open Inference Protocol
//	GET    /v2, /v2/health/{live,ready}, /v2/models/{model}, and the rest of that protocol
//	GET    /healthz, /readyz, /metrics, /problems/{problem}
//
// A model's routes are there under …/models/{model}/versions/{version} too, for one version of it.
//
// # Input
//
// The body is the Open Inference Protocol's {"inputs": [{"name","shape","datatype","data"}]}, or for a model with one
// input {"input": …}, an array of the model's rank. With one level of nesting less it is a single row, and /predict
// answers with that row's prediction alone.
//
// Under /v2 tensors may be binary too: they follow the JSON, whose length Inference-Header-Content-Length says.
//
// # Errors
//
// Every error is a problem+json document (RFC 9457) whose type is /problems/<code>; GET on that path explains it, and
// the table in problemtypes.go lists them all. A request that cannot be parsed is a 400, one that can but does not fit
// its model is a 422 which names the field and what the model takes. The input is never echoed. Under /v2 the same
// document is plain JSON with one member more, "error", which the protocol's clients read; that of files and batches has an
// "error" as OpenAI's clients read it.
//
// /predict answers with the problem of the job: 422 where the model failed at this input, 500 where every attempt was
// used up, 504 where the deadline passed or the wait was over. In the last case the job goes on, and Location names it.
//
// # What cannot be answered now
//
// 429 and 503 say by Retry-After when to come back, going by what waits and how fast it is worked off, and spread over
// some seconds, so that a crowd does not come back as one. A submit needs the queue alone; /predict needs the result
// store too, or nobody could be given its result. No request outlasts the timeouts of [Config] and of the gateway.
package httpapi
