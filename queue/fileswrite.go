package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// chunkBytes is the size of a chunk, if the server's max_payload allows it.
const chunkBytes = 256 << 10

// Put keeps what r has under a name, in place of what is there. The file is there when Put returns, or not at all. An
// error of r is returned as it is; ErrFull says that the store has no room.
//
// Chunks are sent one after the other, since their order in the stream is that of the file, and each of them until it
// is acknowledged.
func (f *Files) Put(ctx context.Context, name string, meta map[string]string, r io.Reader) (FileInfo, error) {
	if !f.q.enter() {
		return FileInfo{}, ErrClosed
	}
	defer f.q.running.Done()
	old, err := f.info(ctx, name)
	if err != nil && !errors.Is(err, job.ErrNotFound) {
		return FileInfo{}, err
	}
	id, err := job.NewID()
	if err != nil {
		return FileInfo{}, err
	}
	o := &jetstream.ObjectInfo{ObjectMeta: jetstream.ObjectMeta{Name: name, Metadata: meta}, Bucket: f.name, NUID: id.String()}
	if err = f.putChunks(ctx, o, r); err == nil {
		err = f.putMeta(ctx, o)
	}
	if err != nil {
		f.drop(ctx, o.NUID)
		return FileInfo{}, err
	}
	if old != nil {
		f.drop(ctx, old.NUID)
	}
	return fileInfo(o), nil
}

func (f *Files) putChunks(ctx context.Context, o *jetstream.ObjectInfo, r io.Reader) error {
	size := chunkBytes
	if most := f.q.conn.MaxPayload(); most > 0 {
		size = int(max(1, min(int64(size), most-headerRoom)))
	}
	digest, subject := sha256.New(), f.chunks(o.NUID)
	o.Opts = &jetstream.ObjectMetaOptions{ChunkSize: uint32(size)}
	for buf := make([]byte, size); ; {
		n, ended, err := fill(r, buf)
		if err != nil {
			return err
		}
		if n > 0 {
			_, _ = digest.Write(buf[:n]) // a hash does not fail
			m := &nats.Msg{Subject: subject, Header: nats.Header{job.HeaderID: {o.NUID + "-" + strconv.FormatUint(uint64(o.Chunks), 10)}}, Data: buf[:n]}
			if _, err := f.q.send(ctx, m); err != nil {
				return fmt.Errorf("store a file: %w", err)
			}
			o.Size += uint64(n)
			o.Chunks++
		}
		if ended {
			o.Digest = "SHA-256=" + base64.URLEncoding.EncodeToString(digest.Sum(nil))
			return nil
		}
	}
}

// fill reads until buf is full or r ends. Unlike io.ReadFull it tells an r that was cut off from one that has ended.
func fill(r io.Reader, buf []byte) (n int, ended bool, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = r.Read(buf[n:])
		n += more
	}
	if errors.Is(err, io.EOF) {
		return n, true, nil
	}
	return n, false, err
}

// putMeta makes the file known.
func (f *Files) putMeta(ctx context.Context, o *jetstream.ObjectInfo) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode what is known of a file: %w", err)
	}
	m := &nats.Msg{
		Subject: "$O." + f.name + ".M." + base64.URLEncoding.EncodeToString([]byte(o.Name)),
		Header:  nats.Header{job.HeaderID: {o.NUID}, jetstream.MsgRollup: {jetstream.MsgRollupSubject}}, Data: body,
	}
	if _, err := f.q.send(ctx, m); err != nil {
		return fmt.Errorf("store a file: %w", err)
	}
	o.ModTime = time.Now().UTC()
	return nil
}

// drop deletes chunks that no file has any more. What it leaves goes when the store's MaxAge is over.
func (f *Files) drop(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.q.cfg.RequestTimeout)
	defer cancel()
	s, err := f.q.js.Stream(ctx, f.stream())
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(f.chunks(id)))
	}
	if err != nil {
		f.q.log.Debug("the chunks of a file could not be deleted; they go with their age", "store", f.name, "error", err)
	}
}
