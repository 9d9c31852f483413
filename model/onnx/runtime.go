package onnx

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Config says how ONNX Runtime is loaded.
type Config struct {
	// Library is the path of the shared library, or of a directory that has it. Empty looks in the usual places, see
	// FindLibrary.
	//
	// Official builds from 1.29 on report home unless ORT_DISABLE_TELEMETRY=1 is in the environment before Open; a program
	// that lets its user choose the library sets it. 1.27 has nothing of the kind.
	Library string
}

// DefaultConfig looks for the library in the usual places.
func DefaultConfig() Config { return Config{} }

// Runtime is ONNX Runtime, loaded into this process.
type Runtime struct {
	library string
	version string

	loading sync.RWMutex // held for reading through each Load, so that Close waits for them

	mu     sync.Mutex
	models map[*Model]struct{}
	closed bool
}

// Open loads the library and readies it. There can be one Runtime in a process at a time: a second Open is an error
// until the first is closed. Open and Close must not be called at the same time.
//
// The error is ErrNoLibrary when the library is missing, too old or no ONNX Runtime, and says what to do.
func Open(cfg Config) (*Runtime, error) {
	if ort.IsInitialized() {
		return nil, errors.New("ONNX Runtime is open already: one Runtime serves the whole process")
	}
	path, err := FindLibrary(cfg.Library)
	if err != nil {
		return nil, err
	}
	if err := checkLibrary(path); err != nil {
		return nil, err
	}
	ort.SetSharedLibraryPath(path)
	// Every error comes back as a status, so nothing needs to be written to stderr behind the logger's back.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, openError(path, err)
	}
	return &Runtime{library: path, version: ort.GetVersion(), models: make(map[*Model]struct{})}, nil
}

// openError says what to do about a library that does not load. The binding's errors are only texts.
func openError(path string, err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "setting ORT API base"):
		return fmt.Errorf("%w: %s is older than ONNX Runtime %s: run `make deps` for %s, or set --onnxruntime-lib to a newer one",
			ErrNoLibrary, path, oldestLibrary, LibraryVersion)
	case strings.Contains(text, "OrtGetApiBase"):
		return fmt.Errorf("%w: %s is a shared library, but not ONNX Runtime (it has no OrtGetApiBase): run `make deps` or correct --onnxruntime-lib",
			ErrNoLibrary, path)
	case strings.Contains(text, "loading ONNX shared library"):
		return fmt.Errorf("%w: %s cannot be loaded (%w): run `make deps` or correct --onnxruntime-lib", ErrNoLibrary, path, err)
	default:
		return fmt.Errorf("open ONNX Runtime from %s: %w", path, err)
	}
}

// Version returns the version of the library, such as "1.27.0".
func (rt *Runtime) Version() string { return rt.version }

// Library returns the path of the library.
func (rt *Runtime) Library() string { return rt.library }

// Close closes every model that is still loaded, which waits for what is being loaded and run, and unloads the library.
func (rt *Runtime) Close() error {
	rt.loading.Lock()
	defer rt.loading.Unlock()
	rt.mu.Lock()
	if rt.closed {
		rt.mu.Unlock()
		return nil
	}
	rt.closed = true
	models := make([]*Model, 0, len(rt.models))
	for m := range rt.models {
		models = append(models, m)
	}
	rt.mu.Unlock()

	var errs []error
	for _, m := range models {
		errs = append(errs, m.Close())
	}
	if err := ort.DestroyEnvironment(); err != nil {
		errs = append(errs, fmt.Errorf("close ONNX Runtime: %w", err))
	}
	return errors.Join(errs...)
}

// add registers a model that was loaded.
func (rt *Runtime) add(m *Model) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.models[m] = struct{}{}
}

func (rt *Runtime) remove(m *Model) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	delete(rt.models, m)
}

// isClosed reports whether Close was called.
func (rt *Runtime) isClosed() bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.closed
}

var errClosed = errors.New("ONNX Runtime, or the model, is closed")
