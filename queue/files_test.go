package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// noise is bytes of which no two chunks are the same.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func readFile(t *testing.T, f *queue.Files, name string) []byte {
	t.Helper()
	r, info, err := f.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != info.Size {
		t.Fatalf("%d of %d bytes, %v", len(b), info.Size, err)
	}
	return b
}

func TestFilesKeepWhatIsPutIntoThem(t *testing.T) {
	t.Parallel()
	f := ready(t, nil).Files("test")
	ctx := t.Context()
	if _, _, err := f.Open(ctx, "a"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("of a store that is not there: %v", err)
	}
	for range 2 {
		if err := f.Ensure(ctx, queue.FilesLimits{MaxBytes: 64 << 20, MaxAge: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	whole := noise(1<<20 + 17)
	for _, n := range []int{0, 1, 256 << 10, len(whole)} {
		if _, err := f.Put(ctx, "in/a", map[string]string{"k": "v"}, bytes.NewReader(whole[:n])); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, f, "in/a"); !bytes.Equal(got, whole[:n]) {
			t.Errorf("%d bytes came back as other %d", n, len(got))
		}
	}
	if _, err := f.Put(ctx, "out/b", nil, bytes.NewReader(whole[:5])); err != nil {
		t.Fatal(err)
	}
	info, err := f.Info(ctx, "in/a")
	if err != nil || info.Size != int64(len(whole)) || info.Meta["k"] != "v" || info.Created.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	list, err := f.List(ctx, "in/")
	if err != nil || len(list) != 1 || list[0].Name != "in/a" {
		t.Errorf("%+v, %v", list, err)
	}
	for range 2 {
		if err := f.Delete(ctx, "in/a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Info(ctx, "in/a"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("after the delete: %v", err)
	}
}

// What breaks off while it comes is no file, and leaves the one that was there; nor has it taken room.
func TestAFileThatBreaksOffIsNone(t *testing.T) {
	t.Parallel()
	q := ready(t, nil)
	f := q.Files("test")
	if err := f.Ensure(t.Context(), queue.FilesLimits{MaxBytes: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(t.Context(), "a", nil, bytes.NewReader([]byte("one"))); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []error{io.ErrUnexpectedEOF, errors.New("gone")} {
		for range 5 { // what one left would leave no room for the next
			r := io.MultiReader(bytes.NewReader(noise(1<<20)), iotest.ErrReader(broken))
			if _, err := f.Put(t.Context(), "a", nil, r); !errors.Is(err, broken) {
				t.Fatalf("expected %v, got %v", broken, err)
			}
		}
	}
	if got := readFile(t, f, "a"); string(got) != "one" {
		t.Errorf("got %d bytes", len(got))
	}
	if _, err := f.Put(t.Context(), "b", nil, bytes.NewReader(noise(5<<20))); !errors.Is(err, queue.ErrFull) {
		t.Errorf("more than there is room for: %v", err)
	}
}

func TestAFileIsReadAcrossARestart(t *testing.T) {
	t.Parallel()
	server := testserver.StartNATS(t, "")
	q := connect(t, testConfig(server.URL()))
	f := q.Files("test")
	if err := f.Ensure(t.Context(), queue.FilesLimits{MaxBytes: -1}); err != nil {
		t.Fatal(err)
	}
	whole := noise(2 << 20)
	if _, err := f.Put(t.Context(), "a", nil, bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	r, _, err := f.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 300<<10)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Start()
	tail, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(head, tail...), whole) {
		t.Errorf("%d bytes behind the restart, %v", len(tail), err)
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsDeletedWhileItIsReadIsCutOff(t *testing.T) {
	t.Parallel()
	f := ready(t, nil).Files("test")
	if err := f.Ensure(t.Context(), queue.FilesLimits{MaxBytes: -1}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(t.Context(), "a", nil, bytes.NewReader(noise(1<<20))); err != nil {
		t.Fatal(err)
	}
	r, _, err := f.Open(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestATreeBucketListsWhatIsBelow(t *testing.T) {
	t.Parallel()
	b := ready(t, nil).TreeBucket("test", time.Hour)
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a.b/two", "a.b/one.x", "a/one", "ab/one"} {
		if err := b.Create(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for below, want := range map[string]string{"a.b": "a.b/one.x a.b/two", "a": "a/one", "none": "", "": "a.b/one.x a.b/two a/one ab/one"} {
		keys, err := b.Keys(t.Context(), below)
		if err != nil || join(keys) != want {
			t.Errorf("below %q: %v, %v", below, keys, err)
		}
	}
	if v, err := b.Get(t.Context(), "a.b/one.x"); err != nil || string(v) != "a.b/one.x" {
		t.Errorf("%q, %v", v, err)
	}
	if err := b.Delete(t.Context(), "a/one"); err != nil {
		t.Fatal(err)
	}
	if keys, err := b.Keys(t.Context(), "a"); err != nil || len(keys) != 0 {
		t.Errorf("a deleted key is listed: %v, %v", keys, err)
	}
}

// A list has every key, however often their values are written meanwhile.
func TestATreeBucketListsWhatIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	b := ready(t, nil).TreeBucket("test", time.Hour)
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	const keys = 20
	name := func(i int) string { return fmt.Sprintf("a/%02d", i%keys) }
	write := func(i int) {
		if err := b.Put(t.Context(), name(i), fmt.Append(nil, i)); err != nil {
			t.Error(err)
		}
	}
	for i := range keys {
		write(i)
	}
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for i := keys; ; i++ {
			select {
			case <-stop:
				return
			default:
				write(i)
			}
		}
	})
	for range 200 {
		if got, err := b.Keys(t.Context(), "a"); err != nil || len(got) != keys {
			t.Errorf("%d keys, %v", len(got), err)
		}
	}
	close(stop)
	writer.Wait()
}
