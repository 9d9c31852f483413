package httpapi

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// listQueues answers GET /v1/admin/queues.
func (a *API) listQueues(w *response, r *http.Request) error {
	states, err := a.deps.Operator.Lanes(r.Context())
	if err != nil {
		return adminError(err)
	}
	lanes := make([]Lane, len(states))
	for i := range states {
		lanes[i] = NewLane(&states[i])
	}
	return marshal(w, http.StatusOK, struct {
		Lanes []Lane `json:"lanes"`
	}{lanes})
}

// pauseQueue answers POST /v1/admin/queues/{lane}/pause.
func (a *API) pauseQueue(w *response, r *http.Request) error {
	return a.setPause(w, r, "pause", func(lane job.Lane, model string, until time.Time) error {
		return a.deps.Operator.Pause(r.Context(), lane, model, until)
	})
}

// resumeQueue answers POST /v1/admin/queues/{lane}/resume.
func (a *API) resumeQueue(w *response, r *http.Request) error {
	return a.setPause(w, r, "resume", func(lane job.Lane, model string, until time.Time) error {
		if !until.IsZero() {
			return job.Invalidf("until", "not a member of a resume: expected a pause")
		}
		return a.deps.Operator.Resume(r.Context(), lane, model)
	})
}

// setPause does it, and answers with how the lane stands then.
func (a *API) setPause(w *response, r *http.Request, act string, do func(lane job.Lane, model string, until time.Time) error) error {
	lane, err := job.ParseLane(r.PathValue("lane"))
	if err != nil {
		return &gateway.Problem{Code: codeNotFound, Detail: "expected the lane interactive or bulk"}
	}
	var body struct {
		Model string `json:"model"` // "": all of them
		Until string `json:"until"` // RFC 3339, or a duration from now; "": until it is resumed
	}
	if err := a.readAdmin(w, r, &body); err != nil {
		return err
	}
	until, err := parseAhead("until", body.Until, time.Now())
	if err != nil {
		return err
	}
	if err := do(lane, body.Model, until); err != nil {
		return adminError(err)
	}
	a.acted(r, act, slog.String("lane", lane.String()), slog.String("model", body.Model), slog.String("until", body.Until))
	states, err := a.deps.Operator.Lanes(r.Context())
	if err != nil {
		return adminError(err)
	}
	for i := range states {
		if states[i].Lane == lane {
			return marshal(w, http.StatusOK, NewLane(&states[i]))
		}
	}
	return marshal(w, http.StatusOK, Lane{Lane: lane.String(), Models: []LaneModel{}})
}
