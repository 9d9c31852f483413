package batch

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// orphanAge is the age from which an object that nothing names is deleted: until then what names it may be on its way.
const orphanAge = time.Hour

// sweepAll deletes what is over, now and then.
func (s *Service) sweepAll(ctx context.Context) {
	for rest(ctx, jitter(s.cfg.SweepEvery)) == nil {
		if err := s.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("batches and files that are over could not all be deleted; it is tried again", slog.Any("error", err))
		}
	}
}

// sweep deletes batches and files whose time is over, and objects that nothing names. Many may do it at a time.
func (s *Service) sweep(ctx context.Context, now time.Time) error {
	named, err := s.sweepBatches(ctx, now)
	if err != nil {
		return err
	}
	if err := s.sweepFiles(ctx, now, named); err != nil {
		return err
	}
	objects, err := s.objects.List(ctx, "")
	if err != nil {
		return err
	}
	for i := range objects {
		o := &objects[i]
		if named[o.Name] || now.Sub(o.Created) < orphanAge || !strings.HasPrefix(o.Name, "in/") && !strings.HasPrefix(o.Name, "out/") {
			continue
		}
		if err := s.objects.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	return nil
}

// sweepBatches deletes what is over, objects first, and returns the names of objects that others have.
func (s *Service) sweepBatches(ctx context.Context, now time.Time) (named map[string]bool, err error) {
	named = map[string]bool{}
	keys, err := s.records.bucket.Keys(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		tenant, id, _ := strings.Cut(key, "/")
		r, _, err := s.records.get(ctx, tenant, id)
		if errors.Is(err, job.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		over := r.Status.Final() && now.Sub(r.Ended) > s.cfg.Retention
		for _, of := range []Output{Results, Errors} {
			for i := range r.out(of).Segments {
				name := r.object(of, &r.out(of).Segments[i])
				named[name] = true
				if !over {
					continue
				}
				if err := s.objects.Delete(ctx, name); err != nil {
					return nil, err
				}
			}
		}
		if !over {
			continue
		}
		if err := s.records.bucket.Delete(ctx, key); err != nil {
			return nil, err
		}
		s.log.Info("a batch is deleted, its retention is over", "batch", id, "tenant", tenant)
	}
	return named, nil
}

// sweepFiles deletes files whose time is over, and notes the names of the others.
func (s *Service) sweepFiles(ctx context.Context, now time.Time, named map[string]bool) error {
	keys, err := s.entries.Keys(ctx, "")
	if err != nil {
		return err
	}
	for _, key := range keys {
		tenant, id, _ := strings.Cut(key, "/")
		f, _, err := s.entry(ctx, tenant, id)
		if errors.Is(err, job.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		named[inputObject(tenant, id)] = true
		if now.Unix() <= f.ExpiresAt {
			continue
		}
		if err := s.dropFile(ctx, tenant, id); err != nil {
			return err
		}
	}
	return nil
}
