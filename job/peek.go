package job

import "time"

// ContainsJob reports whether the message of that content type carries the job at that place.
func ContainsJob(env *Envelope, id ID, index int) bool {
	_, ok := PeekJob(env, id, index)
	return ok
}

// Peek is what a message says of a job beside what the job carries.
type Peek struct {
	CreatedAt   time.Time
	Deadline    time.Time // zero: none
	Fingerprint uint64    // 0: none
	Webhook     string    // "": none
}

// PeekJob reads that of the job at a place of the message; false if the message does not carry the job there.
func PeekJob(env *Envelope, id ID, index int) (p Peek, ok bool) {
	if id.IsZero() || index < 0 {
		return p, false
	}
	p.CreatedAt = env.Published
	if env.contentType() == ContentTypeSheaf {
		return p, peekSheaf(env.Body, index, &p) == id
	}
	if index != 0 {
		return p, false
	}
	_ = setDeadline(&p.Deadline, env.header(HeaderDeadline))             // one that is no time is the worker's to refuse
	_ = setWebhook(&p.Webhook, HeaderWebhook, env.header(HeaderWebhook)) // as above
	if found, err := ParseID(env.header(HeaderID)); err == nil {
		return p, found == id
	}
	j := env.newJob()
	_ = decodeRequest(env, &j, DefaultLimits()) // a request that is refused may still say its id
	return p, env.requestID(&j) == id
}

// peekSheaf returns the ID of the job at a place, zero if there is none, and sets what the job says.
func peekSheaf(body []byte, index int, p *Peek) (id ID) {
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
				_ = setTime(&p.CreatedAt, "", g.num)
			case jobDeadline<<3 | wireVarint:
				_ = setTime(&p.Deadline, "", g.num)
			case jobWebhook<<3 | wireBytes:
				_ = setWebhook(&p.Webhook, "", string(g.bytes))
			case jobFingerprint<<3 | wireFixed64:
				p.Fingerprint = g.num
			}
		}
		return id
	}
	return ID{}
}
