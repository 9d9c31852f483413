package main

import (
	"fmt"
	"strings"
)

// byFlag puts the flags in place of the names that an error about settings has for them. A name that begins like
// another stands before it.
func byFlag(err error) error {
	if err == nil {
		return nil
	}
	names := strings.NewReplacer(
		"limit MaxBytes", "--max-body-bytes",
		"MaxBodyBytes", "--max-body-bytes",
		"MaxHeaderBytes", "--max-header-bytes",
		"HeaderTimeout", "--header-timeout",
		"IdleTimeout", "--idle-timeout",
		"CORSOrigins", "--cors-origins",
		"limit MaxRows", "--max-rows",
		"limit MaxRank", "--max-rank",
		"limit MaxElements", "--max-elements",
		"limit MaxTensors", "--max-tensors",
		"BulkMaxJobs", "--bulk-max-jobs",
		"MaxBulkRequests", "--max-bulk-requests",
		"MaxBulkStreams", "--max-bulk-streams",
		"MaxFileStreams", "--max-file-streams",
		"MaxFileBytes", "--batch-max-bytes",
		"StreamIdle", "--grpc-stream-idle",
		"BulkPatience", "--bulk-patience",
		"LookupMaxIDs", "--lookup-max-ids",
		"EventsMaxIDs", "--events-max-ids",
		"EventsHeartbeat", "--events-heartbeat",
		"EventsMaxTime", "--events-max-time",
		"MaxSubmits", "--max-submits",
		"DeadlineMargin", "--deadline-margin",
		"RetryAfterMax", "--retry-after-max",
		"RetryAfter", "--retry-after",
		"MaxWaiters", "--max-waiters",
		"MaxWait", "--max-wait",
		"PredictTimeout", "--predict-timeout",
		"SubmitTimeout", "--submit-timeout",
		"AdminTimeout", "--lookup-timeout",
		"LookupTimeout", "--lookup-timeout",
		"BodyTimeout", "--body-timeout",
		"PollInterval", "--poll-interval",
		"DrainTimeout", "--drain-timeout",
		"JWT.Issuer", "--jwt-issuer",
		"JWT.JWKS", "--jwt-jwks",
		"JWT.Audience", "--jwt-audience",
		"JWT.TenantClaim", "--jwt-tenant-claim",
		"JWT.DefaultTenant", "--jwt-default-tenant",
		"JWT.ScopeClaim", "--jwt-scope-claim",
		"JWT.Leeway", "--jwt-leeway",
		"SweepInterval", "--sweep-interval",
		"RunTimeout", "--run-timeout",
		"MaxAttempts", "--max-attempts",
		"ReserveBulk", "--bulk-reserve",
		"BulkSlice", "--bulk-slice",
		"ExpressInstances", "--express-instances",
		"YieldNice", "--yield-nice",
		"Ahead", "--ahead",
		"BufferBytes", "--buffer-bytes",
		"RetryDelayMax", "--retry-delay-max",
		"RetryDelay", "--retry-delay",
	)
	return &namedError{text: names.Replace(fmt.Sprint(err)), err: err}
}

// namedError is an error in other words.
type namedError struct {
	text string
	err  error
}

func (e *namedError) Error() string { return e.text }
func (e *namedError) Unwrap() error { return e.err }
