package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sheafml/sheaf/blobstore"
)

// isURL reports whether an argument names an object, and no file of this machine.
func isURL(name string) bool { return blobstore.IsURL(name) }

// localPath takes file:///path for the path.
func localPath(name string) (string, error) {
	if !strings.HasPrefix(name, "file:") || !isURL(name) {
		return name, nil
	}
	u, err := url.Parse(name)
	if err != nil || u.Path == "" || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" {
		return "", fmt.Errorf("%q: expected file:///path", name)
	}
	return u.Path, nil
}

func openObject(ctx context.Context, name string) (*blobstore.Object, error) {
	o, err := blobstore.Open(ctx, name)
	return o, storageFault(err)
}

func objectExists(ctx context.Context, name string) (bool, error) {
	there, err := blobstore.Exists(ctx, name)
	return there, storageFault(err)
}

// upload puts a file in its place in a storage service.
func upload(ctx context.Context, to, from string) error {
	f, err := os.Open(from) //nolint:gosec // the command wrote it
	if err != nil {
		return fmt.Errorf("upload the output: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	return storageFault(blobstore.Upload(ctx, to, f))
}

// storageFault gives an error of a storage service its exit code.
func storageFault(err error) error {
	switch {
	case errors.Is(err, blobstore.ErrUnavailable):
		return withCode(exitUnreachable, err)
	case errors.Is(err, blobstore.ErrURL), errors.Is(err, blobstore.ErrNotFound), errors.Is(err, blobstore.ErrDenied):
		return withCode(exitUsage, err)
	}
	return err
}
