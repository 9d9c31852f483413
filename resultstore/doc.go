// Package resultstore keeps the terminal records of jobs: one record a job, under the job's ID, for a time. It is the
// only package that knows go-redis.
//
// # The rule
//
// A terminal record is written once. Succeeded, failed, canceled and expired race for the same key; the first wins and
// nothing ever flips it. Nobody needs a lock or a fencing token for that: whoever comes second is told what stands
// there ([Outcome].Existing) and takes it for the truth.
//
// A write that was not answered may have been made. So a record that stands there already and has our own bytes is
// ours: [Outcome].Won is true, as it would have been had the answer arrived. Two attempts at a job must therefore
// never make equal records by chance; the attempt token inside a record sees to that. With this rule a write may be
// repeated at will, by the caller and by go-redis, which repeats a pipeline on its own when a connection breaks.
//
// # Errors
//
// [ErrUnavailable] says that another try may succeed: the store is out of reach, too slow, read-only, full, loading or
// fails over, or refuses the password that it took before. Nothing is then known of the record, except that it is not
// another one than before: try again until there is an answer. Any other error is about the entry itself, or the
// caller's own context, or [ErrClosed].
//
// # Stores
//
// [Redis] is one server, a Sentinel group or a Cluster, all behind [Config]; Redis 7.0 or newer, or what speaks like
// it, since a write is
//
//	SET sheaf:<job ID> <record> NX GET EX <seconds>
//
// and NX together with GET came with 7.0. A batch of them is one pipeline: one round trip (in a Cluster one to each
// node). After a job's message is acknowledged its result lives here alone, so Redis should run with
// "appendonly yes" and "maxmemory-policy noeviction"; [OpenRedis] warns if it does not.
//
// A replica follows its primary a moment later, so a primary that is lost takes with it what was just acknowledged.
// With [Config].WaitReplicas a record counts as written only after so many replicas have confirmed it, by WAIT; until
// then the write fails with [ErrUnavailable], and the caller tries again. The same holds for a record that was found:
// it may be one that is not confirmed yet. A reader may see such a record a moment before it is.
//
// [Memory] keeps records in this process, for sheaf dev and for tests. It is bounded, and refuses writes when it is
// full instead of forgetting results before their time.
//
// Package storetest has the conformance suite that both pass.
package resultstore
