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

// LaneState is how a lane stands.
type LaneState struct {
	Lane     job.Lane
	Messages uint64 // that are not finished
	Bytes    uint64
	// The limits; -1 is none.
	MaxMessages, MaxBytes, MaxMessagesPerTenant int64
	// PausedUntil is until when the whole lane is paused, see PausedForever; zero if it is not. A model may be paused
	// by itself.
	PausedUntil time.Time
	Models      []ModelState // by name
}

// ModelState is how a model stands in a lane.
type ModelState struct {
	Model       string
	Waiting     uint64 // messages that wait for their first delivery
	Running     int    // messages that are held by a worker, or wait for another delivery
	Redelivered int    // those of them that were delivered more than once
	// Oldest is when the oldest message that waits was stored; zero if none waits.
	Oldest time.Time
	// PausedUntil is until when nothing is delivered; zero if it is.
	PausedUntil time.Time
	// Partly says that this is so for some of its tenants only: a pause or a resume was cut short. Doing it again mends it.
	Partly bool
	// Unserved says that no worker has ever served the model in this lane.
	Unserved bool
}

// Lanes says how every lane stands, with every model that has been served in it or for which something waits.
func (q *Queue) Lanes(ctx context.Context) ([]LaneState, error) {
	var all []LaneState
	for _, lane := range job.Lanes() {
		s, err := q.laneState(ctx, lane)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (q *Queue) laneState(ctx context.Context, lane job.Lane) (LaneState, error) {
	s, err := q.stream(ctx, lane.String())
	if err != nil {
		return LaneState{}, err
	}
	info := s.CachedInfo()
	state := LaneState{
		Lane: lane, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		MaxMessages: info.Config.MaxMsgs, MaxBytes: info.Config.MaxBytes, MaxMessagesPerTenant: larger(info.Config.MaxMsgsPerSubject, info.Config.MaxMsgsPerSubject),
		PausedUntil: notedPause(info.Config.Metadata, "", time.Now()),
	}
	consumers, err := q.consumersOf(ctx, s)
	if err != nil {
		return LaneState{}, err
	}
	models := make(map[string]*ModelState)
	known := uint64(0)
	for _, c := range consumers {
		model, ok := modelOf(c.Name)
		if !ok {
			continue
		}
		known += c.NumPending + uint64(max(0, c.NumAckPending))
		m := models[model]
		if m == nil {
			m = &ModelState{Model: model, PausedUntil: pausedUntil(&c.Config)}
			models[model] = m
		}
		if err := q.addShare(ctx, lane, m, c); err != nil {
			return LaneState{}, err
		}
	}
	if known < state.Messages {
		if err := q.addUnserved(ctx, lane, models); err != nil {
			return LaneState{}, err
		}
	}
	for _, m := range models {
		state.Models = append(state.Models, *m)
	}
	slices.SortFunc(state.Models, func(a, b ModelState) int { return strings.Compare(a.Model, b.Model) })
	return state, nil
}

// addShare adds what one consumer of the model says.
func (q *Queue) addShare(ctx context.Context, lane job.Lane, m *ModelState, c *jetstream.ConsumerInfo) error {
	m.Waiting += c.NumPending
	m.Running += c.NumAckPending
	m.Redelivered += c.NumRedelivered
	if until := pausedUntil(&c.Config); !until.Equal(m.PausedUntil) {
		m.Partly = true
		if until.After(m.PausedUntil) {
			m.PausedUntil = until
		}
	}
	if c.NumPending == 0 {
		return nil
	}
	for _, filter := range filtersOf(&c.Config) {
		first, err := q.messageAt(ctx, lane.String(), c.Delivered.Stream+1, filter)
		if errors.Is(err, job.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at lane %s: %w", lane, err)
		}
		m.older(first.Time)
	}
	return nil
}

func (m *ModelState) older(t time.Time) {
	if m.Oldest.IsZero() || t.Before(m.Oldest) {
		m.Oldest = t
	}
}

// addUnserved adds the models that no consumer is for.
func (q *Queue) addUnserved(ctx context.Context, lane job.Lane, models map[string]*ModelState) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	s, err := q.js.Stream(ctx, lane.String())
	if err == nil {
		var info *jetstream.StreamInfo
		if info, err = s.Info(ctx, jetstream.WithSubjectFilter(subjectRoot+lane.String()+".>")); err == nil {
			addSubjects(info, models)
		}
	}
	if err != nil {
		return requestError("look at stream "+lane.String(), err)
	}
	for _, m := range models {
		if !m.Unserved {
			continue
		}
		first, err := q.messageAt(ctx, lane.String(), 1, subjectRoot+lane.String()+"."+token(m.Model)+".>")
		if errors.Is(err, job.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at lane %s: %w", lane, err)
		}
		m.older(first.Time)
		m.PausedUntil = notedPause(s.CachedInfo().Config.Metadata, m.Model, time.Now())
	}
	return nil
}

// addSubjects counts the messages of the subjects whose model has no consumer.
func addSubjects(info *jetstream.StreamInfo, models map[string]*ModelState) {
	for subject, n := range info.State.Subjects {
		_, model, _, ok := parseSubject(subject)
		if !ok {
			continue
		}
		m := models[model]
		if m == nil {
			m = &ModelState{Model: model, Unserved: true}
			models[model] = m
		}
		if m.Unserved {
			m.Waiting += n
		}
	}
}
