package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// verifyChunk is how many results one MGET reads back.
const verifyChunk = 500

// sheafSide measures Sheaf.
type sheafSide struct {
	*client
	lab      *lab
	rows     []row
	progress io.Writer
}

// openSheaf connects to the lab as a web app does, and waits until the worker has announced the model.
func openSheaf(ctx context.Context, l *lab, rows []row, progress io.Writer) (*sheafSide, error) {
	c, err := openClient(ctx, l, clientSettings(l), modelName)
	if err != nil {
		return nil, err
	}
	return &sheafSide{client: c, lab: l, rows: rows, progress: progress}, nil
}

// round measures one round of jobs from an empty Redis and an empty queue, and verifies every record.
func (s *sheafSide) round(ctx context.Context, jobs int) (round, error) {
	if err := s.lab.empty(ctx); err != nil {
		return round{}, err
	}
	var m meter
	m.add(cpuProducer, os.Getpid())
	m.add(cpuNATS, s.lab.nats.pid())
	m.add(cpuWorker, s.lab.worker.pid())
	m.add(cpuRedis, s.lab.redis.pid())
	db := s.lab.database(dbSheaf)
	defer db.Close() //nolint:errcheck // nothing is left to be lost

	ids := make([]job.ID, jobs)
	batchesBefore, err := s.batches(ctx)
	if err != nil {
		return round{}, err
	}
	messagesBefore, err := s.messages()
	if err != nil {
		return round{}, err
	}
	watching, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	submitted := make(chan struct{})
	var refused error
	from := m.read()
	go func() {
		defer close(submitted)
		if refused = s.submit(watching, ids); refused != nil {
			giveUp(refused)
		}
	}()
	end, err := awaitKeys(watching, db, 0, jobs, s.progress)
	if err != nil {
		giveUp(err)
		<-submitted
		return round{}, fmt.Errorf("sheaf: %w", err)
	}
	to := m.read()
	if <-submitted; refused != nil {
		return round{}, refused
	}
	r := newRound(jobs, end.Sub(from.at))
	m.since(from, to, &r)
	batches, err := s.batches(ctx)
	if err != nil {
		return round{}, err
	}
	messages, err := s.messages()
	if err != nil {
		return round{}, err
	}
	r.BatchRows, r.MessageJobs = batches.meanSince(batchesBefore), messages.meanSince(messagesBefore)
	if err := s.verify(ctx, ids); err != nil {
		return round{}, err
	}
	return r, s.drained(ctx)
}

// submit hands every job to SubmitAll and notes its ID.
func (s *sheafSide) submit(ctx context.Context, ids []job.ID) error {
	var refused error
	requests := iter.Seq[producer.Request](func(yield func(producer.Request) bool) {
		for i := range ids {
			if !yield(producer.Request{Model: modelName, Inputs: s.rows[i%len(s.rows)].inputs}) {
				return
			}
		}
	})
	err := s.producer.SubmitAll(ctx, requests, func(i int, sub producer.Submission, err error) {
		if err != nil && refused == nil {
			refused = fmt.Errorf("job %d was refused: %w", i, err)
		}
		ids[i] = sub.Ticket.ID
	})
	if err != nil {
		return err
	}
	return refused
}

// verify reads every record back and compares it with what the model gives for its row.
func (s *sheafSide) verify(ctx context.Context, ids []job.ID) error {
	for from := 0; from < len(ids); from += verifyChunk {
		part := ids[from:min(from+verifyChunk, len(ids))]
		records, err := s.store.Get(ctx, part...)
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		for i, record := range records {
			if err := s.checkRecord(part[i], record, &s.rows[(from+i)%len(s.rows)]); err != nil {
				return fmt.Errorf("job %s: %w", part[i], err)
			}
		}
	}
	return nil
}

func (s *sheafSide) checkRecord(id job.ID, record []byte, want *row) error {
	if record == nil {
		return job.ErrNotFound
	}
	r, err := job.DecodeRecord(id, record)
	switch {
	case err != nil:
		return err
	case r.State != job.Succeeded:
		return fmt.Errorf("it is %s, not succeeded: %w", r.State, r.Error)
	case len(r.Outputs) != 1 || r.Outputs[0].Name != modelOutput:
		return fmt.Errorf("expected the one output %q, got %d outputs", modelOutput, len(r.Outputs))
	}
	return want.check(r.Outputs[0].Data)
}

// drained waits until every message has been acknowledged, so that the next round begins with an empty stream.
func (s *sheafSide) drained(ctx context.Context) error { return s.lab.drained(ctx) }
