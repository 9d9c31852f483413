package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// EnsureStreams creates the streams and the bucket, idempotently and safely in many processes at once. Of a stream
// that exists it changes only what Sheaf cannot do without, and limits that are smaller than the settings: more
// replicas or larger limits, which an operator gave it, stay. While JetStream is still getting ready it tries again,
// for the connect timeout.
func (q *Queue) EnsureStreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.ConnectTimeout)
	defer cancel()
	for _, want := range q.streams() {
		if err := q.patiently(ctx, func(ctx context.Context) error { return q.ensureStream(ctx, want) }); err != nil {
			return q.storageAdvice(want, requestError("prepare stream "+want.Name, err))
		}
	}
	return q.Bucket(bucketModels).Ensure(ctx)
}

// streams are the streams as they are created.
func (q *Queue) streams() []jetstream.StreamConfig {
	var list []jetstream.StreamConfig
	for _, l := range job.Lanes() {
		lane := q.cfg.lane(l)
		list = append(list, jetstream.StreamConfig{
			Name:                 l.String(),
			Description:          "Sheaf: unfinished jobs, lane " + l.String(),
			Subjects:             laneSubjects(l, q.cfg.TenantShares),
			SubjectTransform:     shareTransform(l, q.cfg.TenantShares),
			Retention:            jetstream.WorkQueuePolicy,
			Storage:              jetstream.FileStorage,
			Discard:              jetstream.DiscardNew,
			DiscardNewPerSubject: true,
			MaxMsgs:              lane.MaxMsgs,
			MaxBytes:             lane.MaxBytes,
			MaxMsgsPerSubject:    lane.MaxMsgsPerSubject,
			Replicas:             q.cfg.Replicas,
			Duplicates:           q.cfg.DuplicateWindow,
			AllowDirect:          true,
		})
	}
	list = append(list, jetstream.StreamConfig{
		Name:        streamDead,
		Description: "Sheaf: dead letters",
		Subjects:    []string{subjectDead + ">"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      q.cfg.Dead.MaxAge,
		MaxBytes:    q.cfg.Dead.MaxBytes,
		Replicas:    q.cfg.Replicas,
		Duplicates:  q.cfg.DuplicateWindow,
		AllowDirect: true,
	})
	return append(list, q.webhookStreams()...)
}

func (q *Queue) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	s, err := q.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if want.MaxMsgsPerSubject == -1 {
			want.DiscardNewPerSubject = false // the server refuses it without a limit
		}
		_, err = q.js.CreateStream(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	merged, err := mergeStream(have, want)
	if err != nil || sameStream(have, merged) {
		return err
	}
	_, err = q.js.UpdateStream(ctx, merged)
	return err
}

// mergeStream is what an existing stream is to become.
func mergeStream(have, want jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	if have.Retention != want.Retention {
		return have, fmt.Errorf("it exists with %v retention, and %v is needed; if it is not Sheaf's, use another account or JetStream domain, else drain it, then delete it with `nats stream rm %s`",
			have.Retention, want.Retention, want.Name)
	}
	m, needs := have, want.Subjects
	if lane, err := job.ParseLane(want.Name); err == nil {
		needs = laneSubjects(lane, 1)
		// How many shares it has stays as it is: whoever serves the lane raises them, see prepareShares.
		if _, err := sharesOf(lane, have.SubjectTransform); err != nil {
			return have, err
		}
	}
	for _, s := range needs {
		if wide := strings.TrimSuffix(s, "*.*") + ">"; len(have.Subjects) == 1 && have.Subjects[0] == wide {
			m.Subjects = want.Subjects // a stream of before subjects without a tenant were refused
		} else if !slices.Contains(have.Subjects, s) {
			return have, fmt.Errorf("it exists with the subjects %q, and %q is needed: it is not Sheaf's; use another account or JetStream domain", have.Subjects, s)
		}
	}
	m.Discard = want.Discard
	m.AllowDirect = true
	m.Replicas = max(have.Replicas, want.Replicas)
	m.MaxMsgs = larger(have.MaxMsgs, want.MaxMsgs)
	m.MaxBytes = larger(have.MaxBytes, want.MaxBytes)
	m.MaxMsgsPerSubject = larger(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	m.DiscardNewPerSubject = want.DiscardNewPerSubject && m.MaxMsgsPerSubject > 0
	if have.MaxAge != 0 && (want.MaxAge == 0 || want.MaxAge > have.MaxAge) {
		m.MaxAge = want.MaxAge
	}
	m.Duplicates = max(have.Duplicates, want.Duplicates)
	return m, nil
}

func sameStream(a, b jetstream.StreamConfig) bool {
	return slices.Equal(a.Subjects, b.Subjects) && a.Discard == b.Discard && a.AllowDirect == b.AllowDirect && a.Replicas == b.Replicas && a.MaxMsgs == b.MaxMsgs &&
		a.MaxBytes == b.MaxBytes && a.MaxMsgsPerSubject == b.MaxMsgsPerSubject && a.DiscardNewPerSubject == b.DiscardNewPerSubject &&
		a.MaxAge == b.MaxAge && a.Duplicates == b.Duplicates
}

// larger of two limits, of which 0 and -1 are none.
func larger(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return -1
	}
	return max(a, b)
}

// patiently does f until it succeeds, fails for good or the context is over; then the last error tells why.
func (q *Queue) patiently(ctx context.Context, f func(context.Context) error) error {
	// A cluster without a leader answers nothing at all: what was asked then must be asked again.
	try := func() error {
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()
		return f(ctx)
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := try()
		if err == nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-q.closed:
			return ErrClosed
		case <-time.After(pause):
		}
	}
}

// attemptTime bounds one attempt of what is done patiently.
const attemptTime = 2 * time.Second

// noRoom is storageAdvice for a stream that is made when it is first needed: that there is no room for it is for whoever
// needs it, and may pass.
func (q *Queue) noRoom(s jetstream.StreamConfig, err error) error {
	advised := q.storageAdvice(s, err)
	var api jetstream.JetStreamError
	if err == nil || !errors.As(err, &api) || api.APIError() == nil {
		return advised
	}
	if code := api.APIError().ErrorCode; code == codeStorageExceeded || code == codeInsufficient {
		return fmt.Errorf("%w: %w", ErrFull, advised)
	}
	return advised
}

// storageAdvice says what to do about an error that the server words for its own operators.
func (q *Queue) storageAdvice(s jetstream.StreamConfig, err error) error {
	var api jetstream.JetStreamError
	if err == nil || !errors.As(err, &api) || api.APIError() == nil {
		return err
	}
	switch api.APIError().ErrorCode {
	case codeStorageExceeded, codeInsufficient:
		return fmt.Errorf("%w; the stream reserves %d bytes: free disk space, raise the server's max_file_store, or lower the lane's maximum bytes", err, s.MaxBytes)
	case codeReplicasNoCluster:
		return fmt.Errorf("%w; %d replicas need a cluster of at least as many servers", err, s.Replicas)
	}
	return err
}
