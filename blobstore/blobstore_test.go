package blobstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/blobstore"
	"github.com/sheafml/sheaf/internal/testserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

func s3(t *testing.T) *testserver.S3 {
	t.Helper()
	s := testserver.StartS3(t, "lake")
	t.Setenv("AWS_ACCESS_KEY_ID", s.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	return s
}

func noise(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// sizeOfOther makes the object that replaces another as large as that.
const sizeOfOther = 20<<20 - 5

// roundTrip writes, looks at, reads and removes an object.
func roundTrip(t *testing.T, url string) {
	t.Helper()
	ctx := t.Context()
	data := noise(t, 20<<20) // several parts of an upload, and many blocks
	if there, err := blobstore.Exists(ctx, url); there || err != nil {
		t.Fatalf("before: %v, %v", there, err)
	}
	if _, err := blobstore.Open(ctx, url); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("opened before it is there: %v", err)
	}
	if err := blobstore.Upload(ctx, url, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if there, err := blobstore.Exists(ctx, url); !there || err != nil {
		t.Fatalf("after: %v, %v", there, err)
	}
	o, err := blobstore.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Size() != int64(len(data)) || o.Identity() == "" {
		t.Errorf("%d bytes, %q", o.Size(), o.Identity())
	}
	for _, offset := range []int64{0, 1, 5 << 20, o.Size() - 1, o.Size()} {
		r, err := o.From(offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
		}
		_ = r.Close()
	}
	for _, at := range [][2]int{{0, 10}, {len(data) - 8, 8}, {3<<20 - 100, 1 << 20}, {7, 0}} {
		p := make([]byte, at[1])
		if n, err := o.ReaderAt().ReadAt(p, int64(at[0])); n != at[1] || err != nil || !bytes.Equal(p, data[at[0]:at[0]+at[1]]) {
			t.Errorf("at %v: %d, %v", at, n, err)
		}
	}
	if n, err := o.ReaderAt().ReadAt(make([]byte, 10), o.Size()-4); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("past the end: %d, %v", n, err)
	}
	// Another content is another identity, and is not mixed with the first.
	if err := blobstore.Upload(ctx, url, io.MultiReader(strings.NewReader("other"), io.LimitReader(rand.Reader, sizeOfOther))); err != nil {
		t.Fatal(err)
	}
	again, err := blobstore.Open(ctx, url)
	if err != nil || again.Identity() == o.Identity() {
		t.Errorf("the same identity: %v", err)
	}
	if err == nil {
		_ = again.Close()
	}
	if r, err := o.From(2); err == nil {
		_, err = io.ReadAll(r)
		if !errors.Is(err, blobstore.ErrChanged) {
			t.Errorf("read on in another object: %v", err)
		}
	} else if !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("read on in another object: %v", err)
	}
	if err := blobstore.Delete(ctx, url); err != nil {
		t.Error(err)
	}
	if err := blobstore.Delete(ctx, url); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestS3(t *testing.T) { roundTrip(t, s3(t).URL("lake", "in/rows.jsonl")) }

func TestGCS(t *testing.T) {
	s := testserver.StartGCS(t, "lake")
	t.Setenv("STORAGE_EMULATOR_HOST", s.Addr)
	roundTrip(t, "gs://lake/in/rows.jsonl?access_id=-&anonymous=true")
}

// broken is a source that fails in the middle.
type broken struct{ left int }

var errBroken = errors.New("the source is broken")

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBroken
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

// An upload that fails leaves what was there.
func TestUploadIsAllOrNothing(t *testing.T) {
	s := s3(t)
	url := s.URL("lake", "out.jsonl")
	if err := blobstore.Upload(t.Context(), url, strings.NewReader("before")); err != nil {
		t.Fatal(err)
	}
	for name, upload := range map[string]func() error{
		"a broken source": func() error { return blobstore.Upload(t.Context(), url, &broken{30 << 20}) },
		"an end": func() error {
			ctx, cancel := context.WithCancel(t.Context())
			return blobstore.Upload(ctx, url, io.MultiReader(io.LimitReader(rand.Reader, 30<<20), &ends{cancel}, rand.Reader))
		},
	} {
		if err := upload(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got, err := os.ReadFile(s.Path("lake", "out.jsonl")); string(got) != "before" || err != nil {
			t.Errorf("%s: %d bytes are there, %v", name, len(got), err)
		}
	}
}

// ends cancels when it is read.
type ends struct{ cancel func() }

func (e *ends) Read([]byte) (int, error) { e.cancel(); return 0, io.EOF }

func TestRefusals(t *testing.T) {
	s := s3(t)
	url := s.URL("lake", "x")
	if err := blobstore.Upload(t.Context(), url, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := blobstore.Open(t.Context(), s.URL("nowhere", "x")); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("no bucket: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, err := blobstore.Open(t.Context(), url)
	if !errors.Is(err, blobstore.ErrDenied) {
		t.Errorf("a wrong key: %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "use_path_style") {
		t.Errorf("the query is in the error: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	o, err := blobstore.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	s.Kill()
	if _, err := blobstore.Open(t.Context(), url); !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	if err := blobstore.Upload(t.Context(), url, io.LimitReader(rand.Reader, 9<<20)); !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("an upload without a server: %v", err)
	}
	if _, err := o.ReaderAt().ReadAt(make([]byte, 1), 0); !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("a read without a server: %v", err)
	}
	s.Start()
	if _, err := o.ReaderAt().ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("what failed once is not tried again: %v", err)
	}
	for _, bad := range []string{"s3://lake", "s3:///x", "s3://lake/dir/", "ftp://lake/x", "://", "s3://key:secret@lake/x"} {
		_, err := blobstore.Open(t.Context(), bad)
		if !errors.Is(err, blobstore.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	a := blobstore.Allow{Prefixes: []string{"s3://lake/in/?region=eu-1", "gs://pond/"}}
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"s3://lake/in/a/b.jsonl":                     "s3://lake/in/a/b.jsonl?region=eu-1",
		"gs://pond/x":                                "gs://pond/x",
		"s3://lake/out/x":                            "",
		"s3://lake/in/../out/x":                      "",
		"s3://lake/in/%2e%2e/out/x":                  "",
		"s3://lake/in/x?endpoint=http://169.254.0.1": "",
		"s3://lake/in/x?":                            "",
		"s3://lake/in/x#f":                           "",
		"s3://lake.evil/in/x":                        "",
		"file:///etc/passwd":                         "",
		"s3://lake/in//x":                            "",
	} {
		got, err := a.Resolve(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{"s3://lake", "lake/", "file:///", "s3:///x/"} {
		if err := (&blobstore.Allow{Prefixes: []string{bad}}).Validate(); err == nil {
			t.Errorf("prefix %q was taken", bad)
		}
	}
}

func TestIsURL(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"s3://a/b": true, "gs://a/b": true, "file:///x": true, "a.jsonl": false, "./a://b": false, "-": false, "/x": false} {
		if blobstore.IsURL(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
