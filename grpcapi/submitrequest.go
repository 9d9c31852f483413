package grpcapi

import (
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// Field numbers of sheaf.v1.SubmitRequest; see job/proto/sheaf/jobs.proto.
const (
	submitInference = 1
	submitLane      = 2
	submitDeadline  = 3
	submitKey       = 4
	submitWebhook   = 5
	submitWait      = 6
)

// submitRequest is a sheaf.v1.SubmitRequest, read by hand so that the tensors in it are not copied once more.
type submitRequest struct {
	request  []byte // an inference.ModelInferRequest
	lane     uint64
	deadline time.Time
	key      string
	webhook  string
	wait     time.Duration
}

// decode reads the message. Fields that it does not know are skipped.
func (q *submitRequest) decode(b []byte) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || num > protowire.MaxValidNumber {
			return errSubmit()
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errSubmit()
		}
		b = b[n:]
		var err error
		switch {
		case typ == protowire.BytesType:
			err = q.field(num, value)
		case typ == protowire.VarintType && num == submitLane:
			q.lane = number
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func errSubmit() error {
	return job.Errorf(job.CodeMalformed, "", "not a valid sheaf.v1.SubmitRequest message")
}

// field reads a field that has a length.
func (q *submitRequest) field(num protowire.Number, value []byte) error {
	switch num {
	case submitInference:
		if q.request != nil { // given twice it is merged, and protobuf merges what is encoded by putting it together
			value = append(slices.Clip(q.request), value...)
		}
		q.request = value
	case submitDeadline:
		var t timestamppb.Timestamp
		if proto.Unmarshal(value, &t) != nil || t.CheckValid() != nil {
			return job.Errorf(job.CodeMalformed, "deadline", "expected a time between the years 1 and 9999")
		}
		q.deadline = t.AsTime()
		return checkDeadline("deadline", q.deadline)
	case submitKey:
		if len(value) == 0 { // as good as not given
			q.key = ""
			return nil
		}
		var err error
		q.key, err = parseKey("idempotency_key", string(value))
		return err
	case submitWebhook:
		if !utf8.Valid(value) {
			return job.Errorf(job.CodeMalformed, "webhook", "not valid UTF-8")
		}
		q.webhook = string(value)
	case submitWait:
		var d durationpb.Duration
		if proto.Unmarshal(value, &d) != nil {
			return errWait()
		}
		var err error
		q.wait, err = waitOf(&d)
		return err
	default: // a field that is not known here
	}
	return nil
}

// laneOr returns the lane that is asked for, or else the other one.
func (q *submitRequest) laneOr(other job.Lane) (job.Lane, error) {
	switch q.lane {
	case uint64(sheafpb.Lane_LANE_UNSPECIFIED):
		return other, nil
	case uint64(sheafpb.Lane_LANE_INTERACTIVE):
		return job.Interactive, nil
	case uint64(sheafpb.Lane_LANE_BULK):
		return job.Bulk, nil
	}
	return 0, job.Invalidf("lane", "expected LANE_INTERACTIVE or LANE_BULK")
}

// waitOf reads how long a client wants to wait. None is 0.
func waitOf(d *durationpb.Duration) (time.Duration, error) {
	switch {
	case d == nil:
		return 0, nil
	case d.CheckValid() != nil || d.AsDuration() < 0:
		return 0, errWait()
	}
	return d.AsDuration(), nil
}

func errWait() error {
	return job.Errorf(job.CodeMalformed, "wait", "expected a time to wait, 0 or longer")
}
