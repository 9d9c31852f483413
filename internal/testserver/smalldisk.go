package testserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a file system of its own that can be filled.
type Disk struct {
	t   testing.TB
	Dir string
}

// SmallDisk mounts a file system of this many bytes until the end of the test; nil if this user may not mount any.
func SmallDisk(t testing.TB, bytes int) *Disk {
	t.Helper()
	d := &Disk{t: t, Dir: t.TempDir()}
	mount := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", bytes), "tmpfs", d.Dir) //nolint:gosec // a fixed program
	if err := mount.Run(); err != nil {
		return nil
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", "-l", d.Dir).Run(); err != nil { //nolint:gosec,noctx // as above, after the test's context
			t.Errorf("testserver: unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

// Fill leaves no byte free.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatalf("testserver: %v", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("testserver: fill the disk: expected that no space is left, got %v", err)
	}
}

// Free gives back what Fill has taken.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatalf("testserver: %v", err)
	}
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
