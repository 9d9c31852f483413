package testserver

import (
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// S3 is a versitygw process: a real S3-compatible server over a folder. A test can kill it and start it again.
type S3 struct {
	process
	Addr           string // host:port
	Key, Secret    string
	program, store string
	sidecar        string
}

// StartS3 starts a server with the buckets.
func StartS3(t testing.TB, buckets ...string) *S3 {
	t.Helper()
	s := &S3{
		process: process{t: t, name: "versitygw"}, program: findProgram(t, "versitygw"), store: bucketFolder(t, buckets),
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))), Key: rand.Text(), Secret: rand.Text(),
	}
	s.sidecar = t.TempDir()
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// bucketFolder makes a folder with a folder for each bucket.
func bucketFolder(t testing.TB, buckets []string) string {
	t.Helper()
	store := t.TempDir()
	for _, b := range buckets {
		if err := os.Mkdir(filepath.Join(store, b), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// Start starts the server again.
func (s *S3) Start() {
	s.t.Helper()
	s.run("http://"+s.Addr, s.program, "--access", s.Key, "--secret", s.Secret, "--port", s.Addr, "posix", "--sidecar", s.sidecar, s.store)
}

// URL names an object.
func (s *S3) URL(bucket, key string) string {
	return "s3://" + bucket + "/" + key + "?region=us-east-1&use_path_style=true&endpoint=http://" + s.Addr
}

// Path is where the server keeps an object.
func (s *S3) Path(bucket, key string) string { return filepath.Join(s.store, bucket, key) }

// GCS is a fake-gcs-server process.
type GCS struct {
	process
	Addr string
}

// StartGCS starts a server with the buckets.
func StartGCS(t testing.TB, buckets ...string) *GCS {
	t.Helper()
	s := &GCS{process: process{t: t, name: "fake-gcs-server"}, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))}
	host, port, _ := net.SplitHostPort(s.Addr)
	s.run("server started", findProgram(t, "fake-gcs-server"), "-scheme", "http", "-host", host, "-port", port,
		"-filesystem-root", bucketFolder(t, buckets), "-public-host", s.Addr)
	t.Cleanup(s.Kill)
	return s
}
