package httpapi

import (
	"net/http"
)

// readyView is the document of /readyz.
type readyView struct {
	Status string            `json:"status"` // "ready" or "unready"
	Checks map[string]string `json:"checks"` // "ok", or what is wrong
}

// health answers GET /healthz.
func (a *API) health(w *response, _ *http.Request) error {
	sendJSON(w, http.StatusOK, []byte(`{"status":"ok"}`+"\n"))
	return nil
}

// readyz answers GET /readyz.
func (a *API) readyz(w *response, r *http.Request) error {
	ready := a.jobs.Ready(r.Context())
	body, status := readyView{"ready", ready.Checks}, http.StatusOK
	if !ready.Ready {
		body.Status = "unready"
		status = http.StatusServiceUnavailable
		a.retryAfter(w.Header(), 0) // who asks here is no crowd
	}
	return marshal(w, status, body)
}
