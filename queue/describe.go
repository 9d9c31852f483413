package queue

import (
	"context"
	"fmt"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// Describe says, in one line for people, which server answers and how its lanes stand.
func (q *Queue) Describe(ctx context.Context) (string, error) {
	if err := q.Ready(ctx); err != nil {
		return "", err
	}
	var lanes []string
	for _, lane := range job.Lanes() {
		stream, err := q.js.Stream(ctx, lane.String())
		if err != nil {
			return "", fmt.Errorf("look at the stream %s: %w", lane, err)
		}
		state := stream.CachedInfo().State
		lanes = append(lanes, fmt.Sprintf("%s %d messages", lane, state.Msgs))
	}
	return fmt.Sprintf("nats-server %s at %s, messages of up to %d bytes; %s",
		q.conn.ConnectedServerVersion(), q.conn.ConnectedUrlRedacted(), q.conn.MaxPayload(), strings.Join(lanes, ", ")), nil
}
