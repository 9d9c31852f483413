package queue

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// maxDoneIDs bounds the IDs in one notice.
const maxDoneIDs = 4096

// NotifyDone tells every process that the jobs are finished. Best effort.
func (q *Queue) NotifyDone(ids []job.ID) error { return q.tell(subjectDone, ids) }

// tell publishes the IDs, many to a message.
func (q *Queue) tell(subject string, ids []job.ID) error {
	const size = len(job.ID{})
	for len(ids) > 0 {
		n := min(len(ids), maxDoneIDs)
		body := make([]byte, 0, n*size)
		for i := range ids[:n] {
			body = append(body, ids[i][:]...)
		}
		if err := q.conn.Publish(subject, body); err != nil {
			return fmt.Errorf("%w: tell of jobs: %w", ErrUnavailable, err)
		}
		ids = ids[n:]
	}
	return nil
}

// OnDone calls fn for every NotifyDone of any process, one call at a time. fn must not block, and may keep ids. stop
// ends it; a call in progress may still be running then.
func (q *Queue) OnDone(fn func(ids []job.ID)) (stop func(), err error) {
	return q.listen(subjectDone, "finished", fn)
}

// listen calls fn with the IDs of every message of the subject, which tells of jobs that are what says.
func (q *Queue) listen(subject, what string, fn func(ids []job.ID)) (stop func(), err error) {
	const size = len(job.ID{})
	sub, err := q.conn.Subscribe(subject, func(m *nats.Msg) {
		if len(m.Data) == 0 || len(m.Data)%size != 0 {
			return // not ours
		}
		ids := make([]job.ID, len(m.Data)/size)
		for i := range ids {
			copy(ids[i][:], m.Data[i*size:])
		}
		fn(ids)
	})
	if err == nil {
		// The server must know of it before the caller relies on it.
		err = q.conn.FlushTimeout(q.cfg.RequestTimeout)
	}
	if err != nil {
		return nil, requestError("listen for "+what+" jobs", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Reply sends an outcome to an inbox. Best effort. The subject comes from a stranger: what is not one plain subject,
// or would reach JetStream's API or Sheaf's own subjects, is refused.
func (q *Queue) Reply(subject string, header map[string]string, body []byte) error {
	if !plainInbox(subject) {
		return job.Invalidf("reply", "expected a plain subject such as an inbox, of at most %d bytes, that does not begin with $ or with sheaf", maxSubject)
	}
	m := &nats.Msg{Subject: subject, Data: body}
	if len(header) > 0 {
		m.Header = make(nats.Header, len(header))
		for k, v := range header {
			m.Header[k] = []string{oneLine(v, maxHeader)}
		}
	}
	if err := q.conn.PublishMsg(m); err != nil {
		return fmt.Errorf("%w: send an outcome: %w", ErrUnavailable, err)
	}
	return nil
}

const (
	maxSubject = 256
	maxHeader  = 4096
	maxReason  = 512
)

func plainInbox(s string) bool {
	if s == "" || len(s) > maxSubject || s[0] == '$' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '*' || s[i] == '>' {
			return false
		}
	}
	for tok := range strings.SplitSeq(s, ".") {
		if tok == "" {
			return false
		}
	}
	first, _, _ := strings.Cut(s, ".")
	return first != strings.TrimSuffix(subjectRoot, ".")
}

// oneLine makes text safe for a header or a protocol line, and bounds it.
func oneLine(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	if strings.ContainsAny(s, "\r\n\x00") {
		s = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(s)
	}
	return s
}
