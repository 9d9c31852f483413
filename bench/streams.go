package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
)

// laneState is what nats-server itself says of a lane: it is asked over its monitoring page, past everything of Sheaf's.
type laneState struct {
	Messages  int    // in the stream: not acknowledged
	Waiting   int    // not yet delivered, over all consumers
	Delivered uint64 // deliveries so far, over all consumers
}

// lanes asks nats-server for the state of both lanes.
func (l *lab) lanes(ctx context.Context) (map[job.Lane]laneState, error) {
	page, err := get(ctx, "http://"+l.monitorAddr+"/jsz?consumers=true&acc=$G")
	if err != nil {
		return nil, fmt.Errorf("ask nats-server for its streams: %w", err)
	}
	return parseLanes([]byte(page))
}

func parseLanes(page []byte) (map[job.Lane]laneState, error) {
	var doc struct {
		Accounts []struct {
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Messages int `json:"messages"`
				} `json:"state"`
				Consumers []struct {
					Waiting   int `json:"num_pending"`
					Delivered struct {
						Deliveries uint64 `json:"consumer_seq"`
					} `json:"delivered"`
				} `json:"consumer_detail"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal(page, &doc); err != nil {
		return nil, fmt.Errorf("nats-server's page of streams: %w", err)
	}
	states := make(map[job.Lane]laneState)
	for _, account := range doc.Accounts {
		for _, stream := range account.Streams {
			for _, lane := range job.Lanes() {
				if lane.String() != stream.Name {
					continue
				}
				state := laneState{Messages: stream.State.Messages}
				for _, consumer := range stream.Consumers {
					state.Waiting += consumer.Waiting
					state.Delivered += consumer.Delivered.Deliveries
				}
				states[lane] = state
			}
		}
	}
	if len(states) != len(job.Lanes()) {
		return nil, fmt.Errorf("nats-server's page of streams names %d lanes, expected %d", len(states), len(job.Lanes()))
	}
	return states, nil
}

// drained waits until every message has been acknowledged.
func (l *lab) drained(ctx context.Context) error {
	err := poll(ctx, 50*time.Millisecond, startPatience, func() (bool, error) {
		states, err := l.lanes(ctx)
		left := 0
		for _, state := range states {
			left += state.Messages
		}
		return left == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for the last acknowledgements: %w", err)
	}
	return nil
}
