package batch

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// Bounds of what a batch may say. Those of the metadata are OpenAI's.
const (
	maxMetadata      = 16
	maxMetadataKey   = 64
	maxMetadataValue = 512
	maxURL           = 4096
	maxWindows       = 24
)

const (
	// linesPerJob is how many lines make one job if nobody says it, partBytes after how much text it ends all the same.
	linesPerJob = 256
	partBytes   = 256 << 10
)

// Create makes a batch. When it returns the batch is accepted, and will come to an end whatever dies. With a key that made
// one already it returns that one, or ErrKeyReused.
func (s *Service) Create(ctx context.Context, tenant string, spec Spec, once Once) (Batch, error) {
	if err := s.prepare(ctx); err != nil {
		return Batch{}, err
	}
	id := ""
	if once.Key != "" {
		c, _, err := s.claims.get(ctx, tenant, once.Key)
		if err != nil {
			return Batch{}, err
		}
		if c != nil {
			if b, ok, err := s.made(ctx, tenant, c, &once); ok || err != nil {
				return b, err
			}
			id = c.Batch
		}
	}
	o, err := s.order(ctx, tenant, spec)
	if err != nil {
		return Batch{}, err
	}
	if id != "" {
		o.ID = id
	} else if once.Key != "" {
		c, err := s.claims.take(ctx, tenant, &once, o.ID)
		if err != nil {
			return Batch{}, err
		}
		if b, ok, err := s.made(ctx, tenant, c, &once); ok || err != nil {
			return b, err
		}
		o.ID = c.Batch
	}
	s.deps.Reach.Reach(failpoint.BatchClaimed)
	return s.accept(ctx, o)
}

// order is the batch that a spec asks for.
func (s *Service) order(ctx context.Context, tenant string, spec Spec) (*order, error) {
	window, err := s.check(&spec)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	o := order{
		Tenant: tenant, Spec: spec, Created: now, Deadline: now.Add(window),
		Cut: cut{Lines: spec.LinesPerJob, Bytes: partBytes, MostLine: s.cfg.MaxLineBytes},
	}
	if o.Cut.Lines == 0 {
		o.Cut.Lines = linesPerJob
	}
	if spec.InputFile != "" {
		err := s.keepFile(ctx, tenant, spec.InputFile, o.Deadline.Add(s.cfg.Retention))
		if errors.Is(err, job.ErrNotFound) {
			return nil, job.Invalidf("input_file_id", "no such file: upload it first")
		}
		if err != nil {
			return nil, err
		}
	}
	u, err := job.NewID()
	if err != nil {
		return nil, err
	}
	o.ID = idOf(u)
	return &o, nil
}

// accept publishes the batch, and then makes its record. Whoever takes it up makes a record that is missing.
func (s *Service) accept(ctx context.Context, o *order) (Batch, error) {
	body, err := o.encode()
	if err != nil {
		return Batch{}, err
	}
	if err := s.deps.Queue.PublishBatch(ctx, o.Tenant, o.ID, body); err != nil {
		return Batch{}, s.doubt(err)
	}
	s.deps.Reach.Reach(failpoint.BatchAccepted)
	r := newRecord(o)
	if err := s.records.create(ctx, &r); err != nil {
		s.log.Warn("a batch is accepted, and its record could not be made; its runner makes it", "batch", o.ID, "error", err)
		return r.view(s.cfg.Retention), nil
	}
	s.deps.Reach.Reach(failpoint.BatchRecorded)
	if known, _, err := s.records.get(ctx, o.Tenant, o.ID); err == nil {
		return known.view(s.cfg.Retention), nil // who asks with a key may have been the second
	}
	return r.view(s.cfg.Retention), nil
}

// check completes what is said of a batch, or says what is wrong with it.
func (s *Service) check(spec *Spec) (window time.Duration, err error) {
	if err := s.checkPlaces(spec); err != nil {
		return 0, err
	}
	if err := s.checkModel(spec); err != nil {
		return 0, err
	}
	if err := checkMetadata(spec.Metadata); err != nil {
		return 0, err
	}
	if spec.Webhook != "" {
		if s.deps.Webhooks == nil {
			return 0, job.Invalidf("webhook", "this server delivers no webhooks: poll the batch instead")
		}
		if err := s.deps.Webhooks.Check("webhook", spec.Webhook); err != nil {
			return 0, err
		}
	}
	if spec.MaxRate < 0 || math.IsNaN(spec.MaxRate) || math.IsInf(spec.MaxRate, 0) {
		return 0, job.Invalidf("max_rate", "expected lines a second, or 0 for no bound")
	}
	if spec.LinesPerJob < 0 || spec.LinesPerJob > s.deps.Limits.MaxRows {
		return 0, job.Invalidf("lines_per_job", "expected at most %d, or 0 to leave it to the server", s.deps.Limits.MaxRows)
	}
	if _, err := parseWindows(spec.Windows); err != nil {
		return 0, job.Invalidf("windows", "%v", err)
	}
	if len(spec.Windows) > maxWindows {
		return 0, job.Invalidf("windows", "expected at most %d", maxWindows)
	}
	if spec.Window == "" {
		spec.Window = strings.TrimSuffix(strings.TrimSuffix(s.cfg.Window.String(), "0s"), "0m")
	}
	window, err = time.ParseDuration(spec.Window)
	if err != nil || window <= 0 || window > s.cfg.MaxWindow {
		return 0, job.Invalidf("completion_window", "expected a duration such as 24h, at most %v", s.cfg.MaxWindow)
	}
	return window, nil
}

// checkPlaces says whether the batch may read and write where it wants to.
func (s *Service) checkPlaces(spec *Spec) error {
	switch {
	case (spec.InputFile == "") == (spec.InputURL == ""):
		return job.Invalidf("input_file_id", "expected the ID of a file, or else input_url")
	case spec.InputURL != "" && s.deps.Inputs == nil:
		return job.Invalidf("input_url", "this server reads no URLs: upload the file, and name it by input_file_id")
	case len(spec.InputURL) > maxURL:
		return job.Invalidf("input_url", "expected at most %d bytes", maxURL)
	}
	for _, out := range []struct{ field, url string }{{"output_url", spec.OutputURL}, {"error_url", spec.ErrorURL}} {
		switch {
		case out.url == "":
			continue
		case s.deps.Outputs == nil:
			return job.Invalidf(out.field, "this server writes to no URLs: read the files of the batch instead")
		case len(out.url) > maxURL:
			return job.Invalidf(out.field, "expected at most %d bytes", maxURL)
		}
		if err := s.deps.Outputs.Check(out.field, out.url); err != nil {
			return err
		}
	}
	return nil
}

// checkModel finds the model and its version, and the endpoint.
func (s *Service) checkModel(spec *Spec) error {
	if spec.Endpoint != "" {
		name, version, _, ok := parseEndpoint(spec.Endpoint)
		if !ok {
			return job.Invalidf("endpoint", "expected /v1/models/{model}/predict or /v1/models/{model}/jobs, or either with /versions/{version}")
		}
		if spec.Model != "" && spec.Model != name || spec.Version != "" && version != "" && spec.Version != version {
			return job.Invalidf("endpoint", "expected the model that the batch names")
		}
		spec.Model = name
		if spec.Version == "" {
			spec.Version = version
		}
	}
	info, err := s.model(spec.Model, spec.Version)
	if err != nil {
		return err
	}
	if spec.Endpoint == "" {
		spec.Endpoint = "/v1/models/" + spec.Model + "/predict"
	}
	spec.Version = info.Version
	return nil
}

func (s *Service) model(name, version string) (model.Info, error) {
	if job.ValidName(name) {
		if info, ok := s.deps.Models.Get(name, version); ok {
			return info, nil
		}
		if known := s.deps.Models.Versions(name); len(known) > 0 {
			return model.Info{}, job.Errorf(job.CodeUnknownModel, "model_version", "no worker has announced this version of the model; the highest that is served is %s", known[0])
		}
	}
	return model.Info{}, job.Errorf(job.CodeUnknownModel, "model", "no worker has announced a model of this name; GET /v1/models lists those that are served")
}

// parseEndpoint reads the route that lines are requests of.
func parseEndpoint(path string) (name, version string, whole, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v1/models/")
	if !ok {
		return "", "", false, false
	}
	parts := strings.Split(rest, "/")
	if len(parts) == 4 && parts[1] == "versions" && parts[2] != "" {
		version = parts[2]
		parts = []string{parts[0], parts[3]}
	}
	if len(parts) != 2 || !job.ValidName(parts[0]) {
		return "", "", false, false
	}
	return parts[0], version, parts[1] == "jobs", parts[1] == "jobs" || parts[1] == "predict"
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadata {
		return job.Invalidf("metadata", "expected at most %d members", maxMetadata)
	}
	for key, value := range m {
		if key == "" || len(key) > maxMetadataKey || len(value) > maxMetadataValue || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return job.Invalidf("metadata", "expected names of 1 to %d bytes and texts of at most %d", maxMetadataKey, maxMetadataValue)
		}
	}
	return nil
}

func parseWindows(list []string) ([]backfill.Window, error) {
	var windows []backfill.Window
	for _, text := range list {
		w, err := backfill.ParseWindow(text)
		if err != nil {
			return nil, err
		}
		windows = append(windows, w)
	}
	return windows, nil
}
