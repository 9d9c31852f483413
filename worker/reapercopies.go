package worker

import (
	"slices"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// copies are the messages that are among the dead letters already and are not settled yet, as far as this process knows,
// each with the jobs that its copy is about. The dead stream itself drops a second copy only within its duplicate window,
// and an outage of the result store may be longer.
type copies struct{ made map[original][]job.ID }

// copiesKept bounds what is remembered. Forgetting costs a second copy at most.
const copiesKept = 4096

// original is a message: a stream that is made again has its sequences again.
type original struct {
	lane      job.Lane
	seq       uint64
	published int64
}

func originalOf(s *queue.Stranded) original {
	return original{s.Envelope.Lane, s.Seq, s.Envelope.Published.UnixNano()}
}

func (c *copies) has(s *queue.Stranded, ids []job.ID) bool {
	of, ok := c.made[originalOf(s)]
	return ok && slices.Equal(of, ids)
}

func (c *copies) add(s *queue.Stranded, ids []job.ID) {
	if c.made == nil {
		c.made = make(map[original][]job.ID)
	}
	if len(c.made) >= copiesKept {
		clear(c.made)
	}
	c.made[originalOf(s)] = ids
}

func (c *copies) drop(s *queue.Stranded) { delete(c.made, originalOf(s)) }
