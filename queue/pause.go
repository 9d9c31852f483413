package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// A pause is the consumers' own: JetStream delivers nothing of a paused consumer until a time. It stays over restarts of
// nats-server and of the workers. So that it holds for a consumer too that is made later, it also stands in the
// stream's metadata: for the lane, and for a model, which has precedence there.
const (
	metaPaused      = "sheaf-paused-until"
	metaPausedModel = metaPaused + "/" // and the model
	notPaused       = "resumed"        // of a model in a lane that is paused
)

// PausedForever is when a pause without an end does end. JetStream has no other way to say it.
var PausedForever = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// minPauseVersion is the first nats-server whose consumers can be paused.
const minPauseVersion = "2.11"

// Pause stops the delivery of a model's messages in one lane until a time, zero for until Resume; of every model, also
// of those that come later, if model is "". Jobs are accepted as before, up to the limits of the lane. What is
// delivered already is finished.
func (q *Queue) Pause(ctx context.Context, lane job.Lane, model string, until time.Time) error {
	if until.IsZero() || until.After(PausedForever) {
		until = PausedForever
	}
	if !until.After(time.Now()) {
		return job.Invalidf("until", "expected a time to come")
	}
	return q.setPause(ctx, lane, model, until.UTC().Round(0))
}

// Resume ends the pause of a model in one lane; of every model if model is "".
func (q *Queue) Resume(ctx context.Context, lane job.Lane, model string) error {
	return q.setPause(ctx, lane, model, time.Time{})
}

func (q *Queue) setPause(ctx context.Context, lane job.Lane, model string, until time.Time) error {
	if model != "" && !job.ValidName(model) {
		return job.Invalidf("model", "not a valid name of a model")
	}
	if lane > job.Bulk {
		return job.Invalidf("lane", "no such lane")
	}
	what := "pause lane " + lane.String()
	if until.IsZero() {
		what = "resume lane " + lane.String()
	}
	if !q.canPause() {
		return fmt.Errorf("%s: nats-server %s cannot do it: %s or later is needed", what, q.conn.ConnectedServerVersion(), minPauseVersion)
	}
	if err := q.notePause(ctx, lane, model, until); err != nil {
		return requestError(what, err)
	}
	return requestError(what, q.applyPause(ctx, lane, model, false))
}

func (q *Queue) canPause() bool {
	var major, minor int
	if _, err := fmt.Sscanf(q.conn.ConnectedServerVersion(), "%d.%d", &major, &minor); err != nil {
		return true // the server knows itself
	}
	return major > 2 || major == 2 && minor >= 11
}

// pauseConsumer sets until when the consumer is paused; zero ends it.
func (q *Queue) pauseConsumer(ctx context.Context, lane job.Lane, name string, until time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	return q.patiently(ctx, func(ctx context.Context) error {
		var err error
		if until.IsZero() {
			_, err = q.js.ResumeConsumer(ctx, lane.String(), name)
		} else {
			_, err = q.js.PauseConsumer(ctx, lane.String(), name, until)
		}
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil
		}
		return err
	})
}

// notePause writes the pause into the stream's metadata. Another process may write the stream's settings at the same
// time, as they were before: what became of it is looked at.
func (q *Queue) notePause(ctx context.Context, lane job.Lane, model string, until time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	for {
		s, err := q.stream(ctx, lane.String())
		if err != nil {
			return err
		}
		c := s.CachedInfo().Config
		meta := pauseNote(c.Metadata, model, until, time.Now())
		if maps.Equal(meta, c.Metadata) {
			return nil
		}
		c.Metadata = meta
		if err := q.patiently(ctx, func(ctx context.Context) error { _, err := q.js.UpdateStream(ctx, c); return err }); err != nil {
			return err
		}
	}
}

// pauseNote returns the metadata with the pause in it.
func pauseNote(old map[string]string, model string, until, now time.Time) map[string]string {
	meta := make(map[string]string, len(old)+1)
	lanePaused := notedPause(old, "", now)
	for k, v := range old {
		ofModel := strings.HasPrefix(k, metaPausedModel)
		switch {
		case model == "" && (ofModel || k == metaPaused):
			// the lane's pause, or its end, is everybody's
		case k == metaPausedModel+model && model != "":
		case ofModel && v != notPaused && parsePause(v, now).IsZero():
			// over
		default:
			meta[k] = v
		}
	}
	key := metaPaused
	if model != "" {
		key = metaPausedModel + model
	}
	switch {
	case !until.IsZero():
		meta[key] = until.Format(time.RFC3339Nano)
	case model != "" && !lanePaused.IsZero():
		meta[key] = notPaused
	}
	return meta
}

// notedPause is until when a model ("": the lane) is paused by the stream's metadata; zero if it is not.
func notedPause(meta map[string]string, model string, now time.Time) time.Time {
	if v, ok := meta[metaPausedModel+model]; ok && model != "" {
		if v == notPaused {
			return time.Time{}
		}
		if until := parsePause(v, now); !until.IsZero() {
			return until
		}
	}
	return parsePause(meta[metaPaused], now)
}

// parsePause reads the time of a pause; zero if it is over, or none.
func parsePause(s string, now time.Time) time.Time {
	until, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || !until.After(now) {
		return time.Time{}
	}
	return until
}

// pausedUntil is until when the consumer is paused; zero if it is not.
func pausedUntil(c *jetstream.ConsumerConfig) time.Time {
	if c.PauseUntil == nil || !c.PauseUntil.After(time.Now()) {
		return time.Time{}
	}
	return *c.PauseUntil
}

// allPaused reports whether every consumer of the model is paused.
func allPaused(consumers []*jetstream.ConsumerInfo, model string) bool {
	return !slices.ContainsFunc(consumers, func(c *jetstream.ConsumerInfo) bool {
		of, ok := modelOf(c.Name)
		return ok && of == model && pausedUntil(&c.Config).IsZero()
	})
}

// applyPause makes the consumers of a model, or of all, agree with what the stream notes. Who changes the note does so
// before, and who makes consumers, afterwards; and each looks at the note again when it is done, so whoever is last has
// it right. With keep a model all of whose consumers are paused without a note, by another tool, stays so.
func (q *Queue) applyPause(ctx context.Context, lane job.Lane, model string, keep bool) error {
	for {
		s, err := q.stream(ctx, lane.String())
		if err != nil {
			return err
		}
		meta := s.CachedInfo().Config.Metadata
		consumers, err := q.consumersOf(ctx, s)
		if err != nil {
			return err
		}
		for _, c := range consumers {
			of, ok := modelOf(c.Name)
			if !ok || model != "" && of != model {
				continue
			}
			until := notedPause(meta, of, time.Now())
			if pausedUntil(&c.Config).Equal(until) || keep && until.IsZero() && allPaused(consumers, of) {
				continue
			}
			if err := q.pauseConsumer(ctx, lane, c.Name, until); err != nil {
				return err
			}
		}
		if s, err = q.stream(ctx, lane.String()); err != nil {
			return err
		}
		if maps.Equal(meta, s.CachedInfo().Config.Metadata) {
			return nil
		}
	}
}
