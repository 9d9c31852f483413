package main

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// runTogether runs all of fns until ctx ends or one of them returns an error, which ends the others; it returns the
// first error.
func runTogether(ctx context.Context, fns ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, fn := range fns {
		group.Go(func() error { return fn(ctx) })
	}
	return group.Wait()
}
