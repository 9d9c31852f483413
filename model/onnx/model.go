package onnx

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/model"
)

// Model is a loaded model: one session, whose weights every instance shares.
type Model struct {
	rt      *Runtime
	info    model.Info
	session *ort.DynamicAdvancedSession
	plan    *plan
	mixed   error // why rows are not run together although the file has a batch axis

	mu        sync.Mutex
	instances map[*Instance]struct{}
	closed    bool
}

// Load reads the model's file and readies it to run, which for large models takes seconds and is not cut short by ctx.
// The error names the file, what is wrong with it and what to do.
func (rt *Runtime) Load(ctx context.Context, v model.Version) (*Model, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load model %s: %w", v, err)
	}
	m, g, err := rt.load(v)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", v, err)
	}
	if !m.info.Signature.Batchable {
		return m, nil
	}
	if m.mixed = m.probe(ctx); m.mixed != nil {
		m.info.Signature.Batchable, m.info.MaxRows = false, 1
		m.plan = newPlan(g, m.info.Signature)
	}
	return m, nil
}

// Unbatched returns why a model with a batch axis is run one job at a time, nil if it is not: it was tried when it was
// loaded, and rows that are run together do not give what they give alone.
func (m *Model) Unbatched() error { return m.mixed }

func (rt *Runtime) load(v model.Version) (*Model, *graph, error) {
	rt.loading.RLock()
	defer rt.loading.RUnlock()
	if rt.isClosed() {
		return nil, nil, errClosed
	}
	g, err := readGraph(v.Path)
	if err != nil {
		return nil, nil, err
	}
	if g.incomplete() {
		if err := g.infer(v.Path); err != nil {
			return nil, nil, loadError(v.Path, g, err)
		}
	}
	sig, err := g.signature()
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be served: %w", v.Path, err)
	}
	info := model.Info{
		Name: v.Name, Version: v.Version, Platform: model.PlatformONNX, Signature: sig, Digest: g.digest,
		Description: v.Manifest.Description, Metadata: v.Manifest.Metadata, Prediction: v.Manifest.Prediction,
		ResultTTL: v.Manifest.ResultTTL, Deadline: v.Manifest.Deadline, MaxRows: 1,
	}
	if v.Manifest.Batching.MaxRows == 1 {
		sig.Batchable, info.Signature.Batchable = false, false // each job is run whole and alone
	}
	if sig.Batchable {
		info.MaxRows = max(1, v.Manifest.Batching.MaxRows)
	}
	if err := info.Validate(); err != nil {
		return nil, nil, err
	}
	session, err := newSession(v, g)
	if err != nil {
		return nil, nil, loadError(v.Path, g, err)
	}
	m := &Model{rt: rt, info: info, session: session, plan: newPlan(g, sig), instances: make(map[*Instance]struct{})}
	rt.add(m)
	return m, g, nil
}

// newSession makes the session. Threads are set explicitly because the runtime's own default ignores a container's
// limits; nobody spins, which at low load would burn a core for nothing.
func newSession(v model.Version, g *graph) (*ort.DynamicAdvancedSession, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy() //nolint:errcheck // it only frees
	err = errors.Join(
		options.SetIntraOpNumThreads(max(1, v.Manifest.IntraOpThreads)),
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		options.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		options.SetCpuMemArena(v.Manifest.MemoryArena),
		// The runtime remembers a memory plan for every shape that it meets, for ever.
		options.SetMemPattern(v.Manifest.MemoryArena && g.static()),
		options.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if err != nil {
		return nil, err
	}
	return ort.NewDynamicAdvancedSession(v.Path, valueNames(g.inputs), valueNames(g.outputs), options)
}

// Info returns what a worker announces of the model.
func (m *Model) Info() model.Info { return m.info }

// NewInstance returns an instance, which one goroutine at a time may run.
func (m *Model) NewInstance() (*Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	in, err := newInstance(m)
	if err != nil {
		return nil, fmt.Errorf("make an instance of %s: %w", m.info.Key(), err)
	}
	m.instances[in] = struct{}{}
	return in, nil
}

// Close closes every instance that is still open, which waits for their runs in flight, and frees the session.
func (m *Model) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	instances := make([]*Instance, 0, len(m.instances))
	for in := range m.instances {
		instances = append(instances, in)
	}
	m.mu.Unlock()

	var errs []error
	for _, in := range instances {
		errs = append(errs, in.Close())
	}
	errs = append(errs, m.session.Destroy())
	m.rt.remove(m)
	return errors.Join(errs...)
}

func (m *Model) remove(in *Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.instances, in)
}

func valueNames(values []value) []string {
	list := make([]string, len(values))
	for i := range values {
		list[i] = values[i].name
	}
	return list
}

// incomplete reports whether the file leaves the type or the number of dimensions of an output open. The exporter may,
// because the runtime can work them out.
func (g *graph) incomplete() bool {
	for _, v := range g.outputs {
		if v.kind == kindUnknown || v.kind == kindTensor && (v.elem == 0 || !v.hasShape) {
			return true
		}
	}
	return false
}

// infer asks the runtime for the outputs that the file leaves open. That loads the model twice, so it is not the rule.
func (g *graph) infer(path string) error {
	_, outputs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return err
	}
	for i := range g.outputs {
		v := &g.outputs[i]
		if i >= len(outputs) || outputs[i].Name != v.name || outputs[i].OrtValueType != ort.ONNXTypeTensor {
			continue
		}
		v.kind, v.elem = kindTensor, int64(outputs[i].DataType)
		// The binding shows "no shape" and "no dimensions" alike, so a scalar stays unknown.
		if !v.hasShape && len(outputs[i].Dimensions) > 0 {
			v.hasShape = true
			for _, d := range outputs[i].Dimensions {
				v.shape = append(v.shape, dim{size: max(-1, d)})
			}
		}
	}
	return nil
}

// static reports whether nothing but the first dimension of the inputs varies.
func (g *graph) static() bool {
	for _, v := range g.inputs {
		for i, d := range v.shape {
			if i > 0 && d.size < 0 {
				return false
			}
		}
	}
	return true
}
