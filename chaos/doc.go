// Command chaos breaks Sheaf on purpose and checks that every accepted job ends, once, and rightly.
//
// It starts real processes on this machine (nats-server, redis-server, two `sheaf serve`, three `sheaf worker`), puts a
// small TCP proxy into every connection between Sheaf and the two servers, submits jobs, and meanwhile works off a
// schedule of faults: kill -9 and restart, SIGTERM and restart, SIGSTOP and SIGCONT (also for longer than a lease
// lasts), latency, black holes, and connections that are reset after a write, so that its answer is lost.
//
// The schedule follows from a seed: the same seed and settings are the same faults on the same processes at the same
// times. What the processes make of them is up to the machine's scheduler, so a failure comes back often, not always.
//
// Some jobs have a short deadline, and some are canceled: they must end so, or with their right result, and only once.
//
// What was accepted is noted in a ledger that no fault reaches. At the end each job must have its one right result:
//
//	lost     accepted, and without a result at the end
//	wrong    the result is not what the model gives for that row, or is not a success (nor the end that was asked for)
//	flipped  a finished job was later shown unfinished, or with another result
//	vanished an accepted job was answered 404
//
// The exit status is 0 only if all four are 0, every accepted job could be checked, nothing is left in the queue, and no
// process of Sheaf ended by itself once it was up.
//
//	go run ./chaos -quick              # under a minute
//	go run ./chaos                     # 100,000 jobs, 200 faults
//	go run ./chaos -seed 7 -keep       # the schedule of seed 7; logs and data stay
//
// See README.md for what is not covered.
package main
