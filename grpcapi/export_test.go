package grpcapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/sheafml/sheaf/job"
)

// Jobs is what an API needs of a gateway, but for bulk submits.
type Jobs interface{ jobs }

// NewWith is New with something else in the gateway's place.
func NewWith(cfg Config, deps Deps, j Jobs) (*API, error) { return newAPI(cfg, deps, j) }

// InferBytes answers a ModelInferRequest as it comes over the wire with a ModelInferResponse as it goes, without the
// connection between.
func (a *API) InferBytes(ctx context.Context, body []byte) ([]byte, codes.Code) {
	c, f := newCodec(), new(frame)
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(body)}, f); err != nil {
		return nil, codes.Unknown
	}
	answer, err := a.modelInfer(ctx, f)
	if err != nil {
		return nil, a.statusOf(ctx, err).Code()
	}
	out, err := c.Marshal(answer)
	if err != nil {
		return nil, codes.Unknown
	}
	return out.Materialize(), codes.OK
}

// SubmitBytes is InferBytes for Submit.
func (a *API) SubmitBytes(ctx context.Context, body []byte) ([]byte, codes.Code) {
	c := newCodec()
	answer, err := a.submit(ctx, &frame{append([]byte(nil), body...)})
	if err != nil {
		return nil, a.statusOf(ctx, err).Code()
	}
	out, err := c.Marshal(answer)
	if err != nil {
		return nil, codes.Unknown
	}
	return out.Materialize(), codes.OK
}

// DecodedSubmit is what a SubmitRequest says, read by hand.
type DecodedSubmit struct {
	Request      []byte
	Lane         uint64
	Deadline     int64 // Unix nanoseconds
	Key, Webhook string
	Wait         int64
}

// DecodeSubmit reads a SubmitRequest.
func DecodeSubmit(b []byte) (DecodedSubmit, error) {
	var q submitRequest
	err := q.decode(b)
	d := DecodedSubmit{Request: q.request, Lane: q.lane, Key: q.key, Webhook: q.webhook, Wait: int64(q.wait)}
	if !q.deadline.IsZero() {
		d.Deadline = q.deadline.UnixNano()
	}
	return d, err
}

// LaneOf is the lane of a SubmitRequest's number.
func LaneOf(n uint64) (job.Lane, error) { return (&submitRequest{lane: n}).laneOr(job.Bulk) }
