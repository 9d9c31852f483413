// Package blobstore reads and writes objects by URL: s3://bucket/key and gs://bucket/key. It is the only package that knows
// gocloud.dev and the SDKs behind it. Files of this machine are not its business.
//
// Where the service is and who asks is said by the query of the URL (region, endpoint, anonymous and so on, see
// docs/backfill-storage.md) and by what the SDKs look at by themselves: environment, credential files, the machine's role.
// An error never repeats the query.
package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/gcsblob" // gs://
	_ "gocloud.dev/blob/s3blob"  // s3://
	"gocloud.dev/gcerrors"
)

// Classes of errors, for who wants to tell them apart.
var (
	ErrNotFound    = errors.New("there is no such object, or no such bucket")
	ErrDenied      = errors.New("access is denied")
	ErrUnavailable = errors.New("the storage service does not do as asked")
	ErrChanged     = errors.New("the object was changed while it was read")
	ErrURL         = errors.New("not a URL of an object")
)

// schemes are those that have a driver.
func schemes() []string { return []string{"s3", "gs"} }

// IsURL reports whether a name has the form of a URL.
func IsURL(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && scheme != "" && !strings.ContainsAny(scheme, `/\.`)
}

// checksums is what the SDK is told of the checksums of answers.
const checksums = "response_checksum_validation"

// location is a URL taken apart.
type location struct {
	bucket string // the URL of the bucket, with the query
	key    string
	name   string // the whole without the query, for messages
}

func parse(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, fmt.Errorf("%w: %s", ErrURL, strings.SplitN(text, "?", 2)[0])
	}
	known := false
	for _, s := range schemes() {
		known = known || u.Scheme == s
	}
	name := u.Scheme + "://" + u.Host + u.Path
	key := strings.TrimPrefix(u.Path, "/")
	switch {
	case !known:
		return location{}, fmt.Errorf("%w: %s: the schemes are s3:// and gs://", ErrURL, name)
	case u.User != nil:
		return location{}, fmt.Errorf("%w: %s://%s: credentials do not belong into a URL; the environment gives them", ErrURL, u.Scheme, u.Host)
	case u.Host == "" || key == "" || strings.HasSuffix(key, "/"):
		return location{}, fmt.Errorf("%w: %s: expected %s://BUCKET/KEY", ErrURL, name, u.Scheme)
	}
	query := u.Query()
	if u.Scheme == "s3" && !query.Has(checksums) {
		// Services beside Amazon's send none for most answers, and the SDK says so on standard error each time.
		query.Set(checksums, "when_required")
	}
	bucket := u.Scheme + "://" + u.Host
	if len(query) > 0 {
		bucket += "?" + query.Encode()
	}
	return location{bucket, key, name}, nil
}

func (l *location) open(ctx context.Context) (*blob.Bucket, error) {
	b, err := blob.OpenBucket(ctx, l.bucket)
	if err != nil {
		// The error of a driver may repeat the URL with its query.
		text := err.Error()
		if _, query, ok := strings.Cut(l.bucket, "?"); ok {
			text = strings.ReplaceAll(text, query, "…")
		}
		return nil, fmt.Errorf("%w: %s: %s", ErrURL, l.name, text)
	}
	return b, nil
}

// fault gives an error of a driver its class and says what to do.
func (l *location) fault(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrChanged) {
		return fmt.Errorf("%s %s: %w", what, l.name, err)
	}
	class, hint := ErrUnavailable, "; is the service up, and are region and endpoint right?"
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		class, hint = ErrNotFound, ""
	case gcerrors.PermissionDenied:
		class, hint = ErrDenied, "; look at the credentials in the environment"
	default:
		if denied(err.Error()) {
			class, hint = ErrDenied, "; look at the credentials in the environment"
		}
	}
	return fmt.Errorf("%s %s: %w%s: %s", what, l.name, class, hint, oneLine(err))
}

// denied knows refusals that drivers do not class.
func denied(text string) bool {
	for _, sign := range []string{"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "failed to refresh cached credentials", "could not find default credentials", "StatusCode: 403"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// oneLine cuts an error of an SDK, which may go on for long.
func oneLine(err error) string {
	const most = 300
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}

// Exists reports whether there is an object.
func Exists(ctx context.Context, text string) (bool, error) {
	l, err := parse(text)
	if err != nil {
		return false, err
	}
	b, err := l.open(ctx)
	if err != nil {
		return false, err
	}
	defer b.Close() //nolint:errcheck // nothing was written
	there, err := b.Exists(ctx, l.key)
	if err != nil {
		return false, l.fault(ctx, "look for", err)
	}
	return there, nil
}

// Delete removes an object. It is no error if there is none.
func Delete(ctx context.Context, text string) error {
	l, err := parse(text)
	if err != nil {
		return err
	}
	b, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // the answer says it all
	if err := b.Delete(ctx, l.key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return l.fault(ctx, "delete", err)
	}
	return nil
}

// partBytes is how much of an upload is in memory at a time: a few parts of a multi-part upload.
const partBytes = 8 << 20

// Upload writes an object from r, in parts as it comes. The object appears, or is replaced, when all of it is there; after
// an error nothing has changed.
func Upload(ctx context.Context, text string, r io.Reader) error {
	l, err := parse(text)
	if err != nil {
		return err
	}
	b, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // Close of the writer says whether the object is there
	writing, abort := context.WithCancel(ctx)
	defer abort()
	w, err := b.NewWriter(writing, l.key, &blob.WriterOptions{BufferSize: partBytes, MaxConcurrency: 2, ContentType: "application/octet-stream"})
	if err != nil {
		return l.fault(ctx, "write", err)
	}
	if _, err := io.Copy(w, r); err != nil {
		abort() // and so Close gives the parts up
		return l.fault(ctx, "write", errors.Join(err, ignore(w.Close())))
	}
	if err := w.Close(); err != nil {
		return l.fault(ctx, "write", err)
	}
	return nil
}

// ignore drops an error that follows from another.
func ignore(error) error { return nil }

// stamp tells versions of an object apart.
type stamp struct {
	size       int64
	etag       string
	at         time.Time
	generation int64 // of Google Cloud Storage, 0 elsewhere
}

func (s stamp) String() string {
	return fmt.Sprintf("%d bytes, %s, changed %s", s.size, s.etag, s.at.UTC().Format(time.RFC3339Nano))
}
