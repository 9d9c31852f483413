package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// syncServerVerb is the hidden first argument that makes this binary the synchronous server of a round.
const syncServerVerb = "sync-server"

// serveSync is what one would write without Sheaf: a net/http server that runs the model in the request, one row at a
// time, with an instance for each CPU.
func serveSync(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet(syncServerVerb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	addr, library, models := fs.String("addr", "", "HOST:PORT"), fs.String("library", "", "file"), fs.String("models", "", "directory")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p, err := openPredictor(ctx, *library, *models)
	if err != nil {
		return err
	}
	defer p.close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /predict", func(w http.ResponseWriter, r *http.Request) {
		prediction, status, err := predictSync(r.Context(), p, http.MaxBytesReader(w, r.Body, 8<<20))
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"prediction": prediction})
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func predictSync(ctx context.Context, p *predictor, body io.Reader) (prediction []float32, status int, err error) {
	var request struct {
		Input []float32 `json:"input"`
	}
	if err := json.NewDecoder(body).Decode(&request); err != nil {
		return nil, http.StatusBadRequest, err
	}
	if len(request.Input) != rowWidth {
		return nil, http.StatusUnprocessableEntity, fmt.Errorf("expected %d values, got %d", rowWidth, len(request.Input))
	}
	raw, err := p.predict(ctx, rawFloats(request.Input))
	if err != nil {
		return nil, http.StatusInternalServerError, err
	}
	return floats(raw), http.StatusOK, nil
}

// startSync starts the synchronous server as a process of its own.
func startSync(ctx context.Context, l *lab, library string) (*process, string, error) {
	dir, err := l.subdir("sync")
	if err != nil {
		return nil, "", err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, "", err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p, err := startProcess("sync-server", dir, program, syncServerVerb, "-addr", addr, "-library", library, "-models", filepath.Clean(l.modelsDir()))
	if err != nil {
		return nil, "", err
	}
	err = p.await(ctx, startPatience, func(ctx context.Context) error {
		_, err := get(ctx, "http://"+addr+"/readyz")
		return err
	})
	if err != nil {
		p.stop()
	}
	return p, addr, err
}
