// Package batch runs files of requests on the server, as OpenAI's batches do: a file of JSON lines in, one file of
// answers and one of errors out, each with a line for each line of the input.
//
// What there is of a batch is in JetStream, and nothing else holds state:
//
//   - Its message in a work-queue stream says that it is not finished. The batch is accepted when that publish is
//     acknowledged; it is removed when the batch's record says how it ended.
//   - Its record in a key-value bucket says what was asked for (cancel, pause), which parts of the input are done, and
//     which objects hold their answers. It is changed by compare and swap only, and the counts are sums over it.
//   - An Idempotency-Key has a record of its own, which names the batch that it makes.
//   - Files, and answers in segments, are objects.
//
// What a crash right after each step leaves:
//
//	claimed    a key that names no batch yet: whoever comes with it again makes that one
//	accepted   the batch's message: whoever takes it up makes the record that is missing
//	recorded   as above; the record is there
//	validated  the message: another runner takes the batch up when the lease is over
//	stored     an object that nothing names: its part is done again, under another name, and the sweep deletes it
//	committed  the message: another runner leaves out what the record says is done
//	ended      the message and the end: another runner only queues the webhook, and removes the message
//	told       as above: the webhook may be told twice, with the same id
//	settled    nothing
//
// Any number of [Service]s share the batches. The one that holds a batch's message runs it; when it dies another takes
// the batch over within the lease and goes on where the record ends. Answers count from the moment that the record
// names their segment, so a line is in the files once, however often its part was computed.
package batch
