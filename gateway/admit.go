package gateway

import (
	"context"
	"errors"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/model"
)

// errForeign is a defect of a protocol's adapter.
var errForeign = errors.New("the job was to be submitted for another tenant than the caller's")

// Limiter counts the jobs that a caller submits; an *auth.Limiter does.
type Limiter interface {
	Allow(p *auth.Principal, n int) (auth.Quota, bool)
}

// ModelFor is Model for the caller of ctx: a model that it may not use is as unknown to it as one that is not there.
func (g *Gateway) ModelFor(ctx context.Context, name, version string) (model.Info, error) {
	if !auth.FromContext(ctx).Sees(name) {
		return g.Model("", version)
	}
	return g.Model(name, version)
}

// ModelsFor lists what is announced, of the models that the caller of ctx may use.
func (g *Gateway) ModelsFor(ctx context.Context) []model.Info {
	p, all := auth.FromContext(ctx), g.deps.Models.List()
	seen := make([]model.Info, 0, len(all))
	for i := range all {
		if p.Sees(all[i].Name) {
			seen = append(seen, all[i])
		}
	}
	return seen
}

// admit says whether the caller of ctx may submit this job now. What is not authenticated may submit everything. It is
// asked for each job, whatever the protocol, so that none can forget to ask.
func (g *Gateway) admit(ctx context.Context, s *Submission) error {
	p := auth.FromContext(ctx)
	if !p.Sees(s.Request.Model) {
		_, err := g.ModelFor(ctx, s.Request.Model, s.Request.Version)
		return err
	}
	if p != nil && s.Request.Tenant != p.Tenant {
		return errForeign
	}
	if err := g.checkWebhook(s); err != nil {
		return err
	}
	var err error
	s.Quota, err = g.Count(ctx)
	return err
}

// Count counts a job of the caller of ctx, or what is made of jobs, and says how it stands with its rate limit: an error if
// it has submitted as many as it may.
func (g *Gateway) Count(ctx context.Context) (auth.Quota, error) {
	if g.deps.Limiter == nil {
		return auth.Quota{}, nil
	}
	quota, ok := g.deps.Limiter.Allow(auth.FromContext(ctx), 1)
	if !ok {
		return quota, &Problem{Code: CodeRateLimited, Busy: true, After: quota.After, Detail: "you have submitted as many jobs as you may for now; try again later"}
	}
	return quota, nil
}
