package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

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
		info := stream.CachedInfo()
		shares, err := sharesOf(lane, info.Config.SubjectTransform)
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%s %d messages, %d tenant shares", lane, info.State.Msgs, shares)
		if until := parsePause(info.Config.Metadata[metaPaused], time.Now()); !until.IsZero() {
			text += ", PAUSED (sheaf queue resume " + lane.String() + ")"
		}
		lanes = append(lanes, text)
	}
	dead, err := q.js.Stream(ctx, streamDead)
	if err != nil {
		return "", fmt.Errorf("look at the stream %s: %w", streamDead, err)
	}
	return fmt.Sprintf("nats-server %s at %s, messages of up to %d bytes; %s; %d dead letters (see sheaf dead ls)",
		q.conn.ConnectedServerVersion(), q.conn.ConnectedUrlRedacted(), q.conn.MaxPayload(), strings.Join(lanes, ", "), dead.CachedInfo().State.Msgs), nil
}
