package table

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// decompress unwraps a file. gzip members and zstd frames that follow each other are one text.
func decompress(r io.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case Plain:
		return io.NopCloser(r), nil
	case Gzip:
		return &gunzip{raw: r}, nil
	case Zstd:
		// A window of 128 MiB is what zstd --long writes.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("read zstd: %w", err)
		}
		return &unzstd{d}, nil
	}
	return nil, fmt.Errorf("%s is no compression to read", c)
}

// gunzip starts with the first Read, so that an empty file is an empty text.
type gunzip struct {
	raw io.Reader
	z   *gzip.Reader
}

func (g *gunzip) Read(b []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(bufio.NewReaderSize(g.raw, 128<<10))
		if err != nil {
			return 0, faultOf("gzip", err)
		}
		g.z = z
	}
	n, err := g.z.Read(b)
	return n, faultOf("gzip", err)
}

func (g *gunzip) Close() error {
	if g.z == nil {
		return nil
	}
	return g.z.Close()
}

type unzstd struct{ *zstd.Decoder }

func (u *unzstd) Read(b []byte) (int, error) {
	n, err := u.Decoder.Read(b)
	return n, faultOf("zstd", err)
}

func (u *unzstd) Close() error {
	u.Decoder.Close()
	return nil
}

// faultOf says what compression was expected where a file is not of it.
func faultOf(name string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // a Reader returns io.EOF itself
		return err
	}
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch) {
		return fmt.Errorf("this is not %s, or something else follows it: %w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// compressor wraps what is written between two commits into a gzip member or a zstd frame of its own.
type compressor interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func newCompressor(c Compression) (compressor, error) {
	switch c {
	case Plain:
		return nil, nil //nolint:nilnil // none is needed
	case Gzip:
		return gzip.NewWriter(nil), nil
	case Zstd:
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
		if err != nil {
			return nil, fmt.Errorf("write zstd: %w", err)
		}
		return z, nil
	}
	return nil, fmt.Errorf("%s is no compression to write", c)
}
