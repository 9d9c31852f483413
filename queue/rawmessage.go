package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// messageAt asks a stream's leader for the message of a sequence, or if next is a subject, for the first one of that
// subject from the sequence on. It returns job.ErrNotFound if there is none.
func (q *Queue) messageAt(ctx context.Context, stream string, seq uint64, next string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj,omitempty"`
	}{seq, next})
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := q.ask(ctx, "STREAM.MSG.GET."+stream, body, &r); err != nil {
		return nil, err
	}
	if r.Error != nil {
		return nil, missing(r.Error, stream)
	}
	m := &jetstream.RawStreamMsg{Subject: r.Message.Subject, Sequence: r.Message.Seq, Data: r.Message.Data, Time: r.Message.Time}
	if len(r.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(r.Message.Header); err != nil {
			return nil, fmt.Errorf("the headers of message %d of stream %s: %w", m.Sequence, stream, err)
		}
	}
	return m, nil
}

// removeAt deletes the message of a sequence; false if it is gone.
func (q *Queue) removeAt(ctx context.Context, stream string, seq uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true})
	if err != nil {
		return false, fmt.Errorf("encode a request: %w", err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Success bool                `json:"success"`
	}
	if err := q.ask(ctx, "STREAM.MSG.DELETE."+stream, body, &r); err != nil {
		return false, err
	}
	if r.Error != nil {
		if err := missing(r.Error, stream); !errors.Is(err, job.ErrNotFound) {
			return false, err
		}
		return false, nil
	}
	return r.Success, nil
}

// ask sends a request to JetStream's API and decodes the answer.
func (q *Queue) ask(ctx context.Context, subject string, body []byte, answer any) error {
	m, err := askAgain(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return q.conn.RequestWithContext(ctx, q.api+subject, body)
	})
	if err != nil {
		return requestError("ask JetStream", err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("the answer is not JetStream's: %w", err)
	}
	return nil
}

// missing is the error of a request about one message.
func missing(e *jetstream.APIError, stream string) error {
	switch e.ErrorCode {
	case jetstream.JSErrCodeMessageNotFound, codeDeleteFailed:
		return job.ErrNotFound
	case jetstream.JSErrCodeStreamNotFound:
		return fmt.Errorf("stream %s does not exist: start a worker or `sheaf serve`, which make it", stream)
	}
	if e.Code == 503 {
		return fmt.Errorf("%w: %s (JetStream error %d)", ErrUnavailable, e.Description, e.ErrorCode)
	}
	return fmt.Errorf("JetStream refuses: %s (error %d)", e.Description, e.ErrorCode)
}
