package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// maxName bounds the name of a file, in bytes.
const maxName = 255

// PutFile keeps a file of requests. name is what its owner calls it; purpose is PurposeBatch.
//
// The object is stored first, and then its entry: a crash in between leaves an object that the sweep deletes.
func (s *Service) PutFile(ctx context.Context, tenant, name, purpose string, r io.Reader) (File, error) {
	if purpose != PurposeBatch {
		return File{}, job.Invalidf("purpose", "expected %q", PurposeBatch)
	}
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' }) {
		return File{}, job.Invalidf("filename", "expected at most %d bytes of text", maxName)
	}
	if err := s.prepare(ctx); err != nil {
		return File{}, err
	}
	kept, err := s.entries.Keys(ctx, tenant)
	if err != nil {
		return File{}, err
	}
	if len(kept) >= s.cfg.MaxFilesPerTenant {
		return File{}, fmt.Errorf("%w: %d files are kept already; delete some", queue.ErrTenantFull, len(kept))
	}
	u, err := job.NewID()
	if err != nil {
		return File{}, err
	}
	f := File{ID: filePrefix + u.String(), Object: "file", Filename: name, Purpose: purpose}
	info, err := s.objects.Put(ctx, inputObject(tenant, f.ID), nil, &bounded{r: r, left: s.cfg.MaxFileBytes, most: s.cfg.MaxFileBytes})
	if err != nil {
		return File{}, s.doubt(err)
	}
	now := time.Now()
	f.Bytes, f.CreatedAt, f.ExpiresAt = info.Size, now.Unix(), now.Add(s.cfg.Retention).Unix()
	value, err := json.Marshal(&f)
	if err == nil {
		err = s.entries.Create(ctx, tenant+"/"+f.ID, value)
	}
	if err != nil {
		return File{}, fmt.Errorf("keep a file: %w", err)
	}
	return f, nil
}

// bounded refuses a file that is too large.
type bounded struct {
	r          io.Reader
	left, most int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, job.Errorf(job.CodeTooLarge, "file", "expected at most %d bytes", b.most)
	}
	return n, err
}

// File returns what is known of a file: one that was uploaded, or an output of a batch.
func (s *Service) File(ctx context.Context, tenant, id string) (File, error) {
	if batch, of, ok := outputOf(id); ok {
		r, _, err := s.records.get(ctx, tenant, batch)
		if err != nil {
			return File{}, err
		}
		return s.outputFile(r, of), nil
	}
	f, _, err := s.entry(ctx, tenant, id)
	return f, err
}

func (s *Service) entry(ctx context.Context, tenant, id string) (f File, revision uint64, err error) {
	if !isFile(id) || !job.ValidName(tenant) {
		return f, 0, job.ErrNotFound
	}
	value, revision, err := s.entries.GetRevision(ctx, tenant+"/"+id)
	if err != nil {
		return f, 0, err
	}
	if err := json.Unmarshal(value, &f); err != nil {
		return f, 0, fmt.Errorf("the entry of file %s cannot be read: %w", id, err)
	}
	return f, revision, nil
}

// outputFile describes an output of a batch.
func (s *Service) outputFile(r *record, of Output) File {
	name := "output"
	if of == Errors {
		name = "errors"
	}
	f := File{
		ID: outputID(r.ID, of), Object: "file", Bytes: r.out(of).bytes(), CreatedAt: unix(r.Created),
		Filename: r.ID + "_" + name + ".jsonl", Purpose: PurposeOutput,
	}
	if !r.Ended.IsZero() {
		f.ExpiresAt = unix(r.Ended.Add(s.cfg.Retention))
	}
	return f
}

// Files lists the uploaded files of a tenant, the newest first, those behind the ID after ("" is from the first one).
func (s *Service) Files(ctx context.Context, tenant, after string, limit int) (files []File, more bool, err error) {
	ids, more, err := page(ctx, s.entries, tenant, after, limit)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		f, _, err := s.entry(ctx, tenant, id)
		if errors.Is(err, job.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, false, err
		}
		files = append(files, f)
	}
	return files, more, nil
}

// OpenFile reads a file. That of a batch which is still running ends where the batch has come to.
func (s *Service) OpenFile(ctx context.Context, tenant, id string) (io.ReadCloser, File, error) {
	if batch, of, ok := outputOf(id); ok {
		r, _, err := s.records.get(ctx, tenant, batch)
		if err != nil {
			return nil, File{}, err
		}
		f := s.outputFile(r, of)
		return s.readOutput(ctx, r, of, 0), f, nil
	}
	f, _, err := s.entry(ctx, tenant, id)
	if err != nil {
		return nil, File{}, err
	}
	r, _, err := s.objects.Open(ctx, inputObject(tenant, id))
	return r, f, err
}

// DeleteFile deletes an uploaded file; ErrInUse if a batch still reads it.
func (s *Service) DeleteFile(ctx context.Context, tenant, id string) error {
	if _, _, ok := outputOf(id); ok {
		return job.Invalidf("file_id", "the files that a batch has written are deleted with it")
	}
	if _, _, err := s.entry(ctx, tenant, id); err != nil {
		return err
	}
	used, err := s.used(ctx, tenant, id)
	if err != nil {
		return err
	}
	if used {
		return ErrInUse
	}
	return s.dropFile(ctx, tenant, id)
}

// dropFile deletes the object first: what a crash leaves is an entry, which is seen, and can be deleted again.
func (s *Service) dropFile(ctx context.Context, tenant, id string) error {
	if err := s.objects.Delete(ctx, inputObject(tenant, id)); err != nil {
		return err
	}
	return s.entries.Delete(ctx, tenant+"/"+id)
}

// used reports whether a batch that is not finished reads a file.
func (s *Service) used(ctx context.Context, tenant, file string) (bool, error) {
	keys, err := s.records.bucket.Keys(ctx, tenant)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		r, _, err := s.records.get(ctx, tenant, key[len(tenant)+1:])
		if err != nil && !errors.Is(err, job.ErrNotFound) {
			return false, err
		}
		if err == nil && !r.Status.Final() && r.Spec.InputFile == file {
			return true, nil
		}
	}
	return false, nil
}

// keepFile has a file live at least until then.
func (s *Service) keepFile(ctx context.Context, tenant, id string, until time.Time) error {
	for {
		f, revision, err := s.entry(ctx, tenant, id)
		if err != nil || f.ExpiresAt >= until.Unix() {
			return err
		}
		f.ExpiresAt = until.Unix()
		value, err := json.Marshal(&f)
		if err != nil {
			return fmt.Errorf("encode what is known of a file: %w", err)
		}
		err = s.entries.Update(ctx, tenant+"/"+id, value, revision)
		if !errors.Is(err, queue.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}
