package grpcapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// codeOf returns the status code of a problem's; a code that it does not know, as a newer worker may write, is Internal.
func codeOf(code job.Code) codes.Code {
	switch code {
	case job.CodeMalformed, job.CodeInvalid, job.CodeTooLarge, job.CodeInference:
		return codes.InvalidArgument
	case job.CodeUnknownModel, gateway.CodeUnknownJob:
		return codes.NotFound
	case job.CodeExpired, gateway.CodeTimeout, gateway.CodeSlowBody:
		return codes.DeadlineExceeded
	case job.CodeCanceled:
		return codes.Aborted
	case gateway.CodeFinished:
		return codes.FailedPrecondition
	case gateway.CodeKeyReused:
		return codes.AlreadyExists
	case gateway.CodeTenantFull, gateway.CodeRateLimited:
		return codes.ResourceExhausted
	case gateway.CodeFull, gateway.CodeBusy, gateway.CodeOverloaded, gateway.CodeUnavailable, gateway.CodeTooManyWaiters:
		return codes.Unavailable
	case gateway.CodeUnsupported:
		return codes.Unimplemented
	case gateway.CodeUnauthorized:
		return codes.Unauthenticated
	case gateway.CodeForbidden:
		return codes.PermissionDenied
	case job.CodeExhausted, job.CodeInternal:
	}
	return codes.Internal
}

// domain is that of the reasons in ErrorInfo.
const domain = "sheaf"

// statusOf returns an error as the client is told of it.
func (a *API) statusOf(ctx context.Context, err error) *status.Status {
	var told interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gateway.ErrClientGone), ctx.Err() != nil && errors.Is(err, context.Canceled):
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err())
		}
		return status.New(codes.Canceled, "the client has gone")
	case errors.As(err, &told):
		return told.GRPCStatus()
	}
	return a.problemStatus(gateway.ProblemOf(err))
}

// problemStatus returns the status of a problem.
func (a *API) problemStatus(p *gateway.Problem) *status.Status {
	reason := &errdetails.ErrorInfo{
		Reason: strings.ToUpper(strings.ReplaceAll(string(p.Code), "-", "_")), Domain: domain,
		Metadata: map[string]string{"code": string(p.Code)},
	}
	for _, m := range []struct{ key, value string }{
		{"field", p.Field}, {"job_id", p.Ticket}, {"job_status", stateText(p.State)}, {"expected", specsText(p.Expected)},
	} {
		if m.value != "" {
			reason.Metadata[m.key] = excerpt(m.value)
		}
	}
	details := []protoadapt.MessageV1{reason}
	if after := a.retryAfter(p); after > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	if p.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: excerpt(p.Field), Description: excerpt(p.Detail)},
		}})
	}
	s := status.New(codeOf(p.Code), excerpt(p.Text()))
	if with, err := s.WithDetails(details...); err == nil {
		return with
	}
	return s
}

// retryAfter says when a client may try again, 0 if that makes no sense. Who polls is told the time; of those who are
// turned away there may be many at the same moment: each is told another time, up to half as late again, so that they do
// not come back as a crowd.
func (a *API) retryAfter(p *gateway.Problem) time.Duration {
	from := a.again(p.After)
	switch {
	case p.Busy:
		to := from + from/2
		if to > a.cfg.RetryAfterMax {
			from, to = max(a.cfg.RetryAfter, min(from, a.cfg.RetryAfterMax*2/3)), a.cfg.RetryAfterMax
		}
		return from + rand.N(to-from+1) //nolint:gosec // a spread needs no secrecy
	case p.Polls:
		return from
	}
	return 0
}

// again bounds the time after which a client is asked to come back.
func (a *API) again(d time.Duration) time.Duration {
	return min(max(d, a.cfg.RetryAfter), a.cfg.RetryAfterMax)
}

// excerpt keeps what is told within the size of a trailer.
func excerpt(s string) string {
	const limit = 1024
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "")
	}
	return s
}

func stateText(s job.State) string {
	if s == job.Unknown {
		return ""
	}
	return s.String()
}

func specsText(specs []model.TensorSpec) string {
	list := make([]string, len(specs))
	for i := range specs {
		list[i] = specs[i].String()
	}
	return strings.Join(list, ", ")
}

// explain adds what the model takes, or gives, to a problem that is about just that.
func explain(err error, info *model.Info) error {
	p := gateway.ProblemOf(err)
	if p.Code != job.CodeInvalid {
		return err
	}
	const most = 16
	specs := info.Signature.Inputs
	switch {
	case strings.HasPrefix(p.Field, "outputs"):
		specs = info.Signature.Outputs
	case !strings.HasPrefix(p.Field, "inputs") && !strings.HasPrefix(p.Field, "raw_input"):
		return p
	}
	if len(specs) <= most {
		p.Expected = specs
	}
	return p
}
