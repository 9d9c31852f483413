// Package webhook tells receivers over HTTP that their jobs are finished, as Standard Webhooks says
// (https://www.standardwebhooks.com): signed, retried with growing pauses, never into private networks.
//
// The deliveries wait in JetStream, see [queue.Queue.QueueWebhooks]; any number of [Sender]s share them. A delivery is a
// pointer to a job's record: what is sent, and where, is read from the record at each attempt. It is removed when its
// receiver has answered 2xx, when it is given up, or when the next attempt waits as a message of its own. So whatever
// dies in between, it is delivered at least once; webhook-id stays the same, and tells a receiver what it has had.
//
// A URL comes from a stranger. [Policy] refuses what is not public, by name and again by the address that is really
// connected to, and nothing is followed, proxied, or told of the answer.
package webhook
