package job

import "time"

// ContainsJob reports whether the message of that content type carries the job at that place.
func ContainsJob(env *Envelope, id ID, index int) bool {
	_, _, ok := PeekJob(env, id, index)
	return ok
}

// PeekJob says when the job at that place of the message was created and when its deadline is, zero if it has none,
// without decoding what it carries; false if the message does not carry the job there.
func PeekJob(env *Envelope, id ID, index int) (created, deadline time.Time, ok bool) {
	if id.IsZero() || index < 0 {
		return created, deadline, false
	}
	created = env.Published
	if env.contentType() == ContentTypeSheaf {
		found := peekSheaf(env.Body, index, &created, &deadline)
		return created, deadline, found == id
	}
	if index != 0 {
		return created, deadline, false
	}
	_ = setDeadline(&deadline, env.header(HeaderDeadline)) // one that is no time is the worker's to refuse
	if found, err := ParseID(env.header(HeaderID)); err == nil {
		return created, deadline, found == id
	}
	j := env.newJob()
	_ = decodeRequest(env, &j, DefaultLimits()) // a request that is refused may still say its id
	return created, deadline, env.requestID(&j) == id
}

// peekSheaf returns the ID of the job at a place, zero if there is none, and sets the times that the job says.
func peekSheaf(body []byte, index int, created, deadline *time.Time) (id ID) {
	f := fieldReader{rest: body}
	for f.next() {
		if f.tag != sheafJobs<<3|wireBytes {
			continue
		}
		if index > 0 {
			index--
			continue
		}
		g := fieldReader{rest: f.bytes}
		for g.next() {
			switch g.tag {
			case jobID<<3 | wireBytes:
				id = wireID(g.bytes)
			case jobCreated<<3 | wireVarint:
				_ = setTime(created, "", g.num)
			case jobDeadline<<3 | wireVarint:
				_ = setTime(deadline, "", g.num)
			}
		}
		return id
	}
	return ID{}
}
