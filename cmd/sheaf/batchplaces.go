package main

import (
	"context"
	"errors"
	"io"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/blobstore"
	"github.com/sheafml/sheaf/job"
)

// batchPlaces are the objects that batches may name by URL.
type batchPlaces struct{ allow blobstore.Allow }

// Check implements batch.Outputs.
func (p *batchPlaces) Check(field, url string) error {
	_, err := p.resolve(field, url)
	return err
}

func (p *batchPlaces) resolve(field, url string) (string, error) {
	to, err := p.allow.Resolve(url)
	if err != nil {
		return "", job.Invalidf(field, "%v", err)
	}
	return to, nil
}

// Open implements batch.Inputs.
func (p *batchPlaces) Open(ctx context.Context, url string) (table.Input, io.Closer, error) {
	from, err := p.resolve("input_url", url)
	if err != nil {
		return nil, nil, err
	}
	o, err := blobstore.Open(ctx, from)
	switch {
	case errors.Is(err, blobstore.ErrUnavailable), ctx.Err() != nil:
		return nil, nil, err
	case err != nil:
		return nil, nil, job.Invalidf("input_url", "%v", err)
	}
	return o, o, nil
}

// Put implements batch.Outputs.
func (p *batchPlaces) Put(ctx context.Context, url string, r io.Reader) error {
	to, err := p.resolve("output_url", url)
	if err != nil {
		return err
	}
	err = blobstore.Upload(ctx, to, r)
	if errors.Is(err, blobstore.ErrDenied) || errors.Is(err, blobstore.ErrNotFound) {
		return job.Invalidf("output_url", "%v", err) // another try would not mend it
	}
	return err
}
