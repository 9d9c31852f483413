// Package job is Sheaf's contract: what a job is, how it travels, and what is kept of it when it is finished.
// Everything else in Sheaf speaks in its terms, and it depends on none of it.
//
// # The nouns
//
//   - A [Job] is one request for a prediction: one or more rows for one model, in a [Lane], of a tenant.
//   - An [ID] names it for life. A [Ticket] is the ID and the place where the job waits; it is what clients hold.
//   - A sheaf is one message that carries one or more jobs of one lane, model and tenant.
//   - A [Result] is the outcome. Its stored form is the terminal record, written once and never changed.
//   - A [State] is derived, never stored, until it is terminal and stands in the record.
//
// # The wire
//
// A message on NATS is a subject (lane, model, tenant), a few headers and a body of one of three content types:
//
//	application/vnd.sheaf.v1+protobuf   sheaf.v1.Sheaf: any number of jobs; AppendJob writes it
//	application/x-protobuf              inference.ModelInferRequest: one job, its ID in the header Nats-Msg-Id
//	application/json                    the Open Inference Protocol's REST body: one job, its ID likewise
//
// [DecodeMessage] reads all three. The messages are in proto/; this package reads and writes them by hand, since the
// jobs of a sheaf then share a few allocations and their tensors alias the message. The generated code is what the
// tests compare with.
//
// # What decoders promise
//
// Every decoder treats its input as hostile. It does not panic, it verifies every claimed size against [Limits] and
// against the bytes that are there before it allocates, and what it returns is consistent: a known datatype, a shape
// within limits, data of exactly the length that these ask for, no name given twice. One broken job does not cost its
// neighbours in a sheaf. An [Error] says which field is wrong, what was expected and what was found, and never repeats
// the input beyond a literal of twenty bytes.
//
// Whether a job suits its model is not decided here: see the package model.
package job
