package producer_test

import (
	"context"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

// instant accepts everything at once.
type instant struct{}

func (instant) Publish(_ context.Context, j *job.Job) (job.Ticket, bool, error) {
	return job.Ticket{ID: j.ID, Seq: 1}, false, nil
}

func (instant) PublishSheaf(context.Context, []*job.Job) ([]job.Ticket, error) { return nil, nil }

func (instant) Load(context.Context, job.Lane, string, string) (queue.Load, error) {
	return queue.Load{Waiting: 1000, Rate: 1e6}, nil
}

// What admission costs a submit, with a deadline and without.
func BenchmarkSubmit(b *testing.B) {
	for name, deadline := range map[string]time.Duration{"no deadline": 0, "deadline": time.Hour} {
		b.Run(name, func(b *testing.B) {
			p, err := producer.New(instant{}, catalogOf(), producer.DefaultConfig())
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			r := request(1, 2, 3)
			if deadline > 0 {
				r.Deadline = time.Now().Add(deadline)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := p.Submit(b.Context(), r); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func (instant) Locate(context.Context, job.Ticket) (job.Location, error) {
	return job.Location{}, job.ErrNotFound
}
