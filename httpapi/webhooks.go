package httpapi

import "net/http"

// redeliver answers POST /v1/jobs/{id}/webhook: 202 when the delivery is queued.
func (a *API) redeliver(w *response, r *http.Request) error {
	t, err := a.ticketOf(w, r)
	if err != nil {
		return err
	}
	if err := a.jobs.Redeliver(r.Context(), a.scope(r), t); err != nil {
		return err
	}
	o := object{b: []byte{'{'}}
	o.string("id", w.ticket)
	sendJSON(w, http.StatusAccepted, o.end())
	return nil
}

// webhookSecret answers GET /v1/webhooks/secret with that of the caller's tenant.
func (a *API) webhookSecret(w *response, r *http.Request) error {
	secret, err := a.jobs.WebhookSecret(r.Context(), a.tenant(r))
	if err != nil {
		return err
	}
	o := object{b: []byte{'{'}}
	o.string("secret", secret)
	sendJSON(w, http.StatusOK, o.end())
	return nil
}
