package httpapi

import "github.com/sheafml/sheaf/auth"

// streamRoutes are those that are about many jobs, or tell of them as they go on.
func (a *API) streamRoutes() []route {
	return []route{
		{"POST", "/v1/models/{model}/bulk", auth.Submit, a.bulk, "submit many jobs: a line of JSON for each, a line of JSON back for each"},
		{"POST", "/v1/models/{model}/versions/{version}/bulk", auth.Submit, a.bulk, "the same with one version of a model"},
		{"POST", "/v1/jobs/lookup", auth.Read, a.lookup, `many jobs at once: {"ids": ["…"]} gives a line of JSON for each; "outputs": false leaves outputs out`},
		{"GET", "/v1/jobs/{id}/events", auth.Read, a.getJobEvents, "server-sent events of a job, until it is finished"},
		{"GET", "/v1/jobs/events", auth.Read, a.getEvents, "the same of several jobs: ?id=a&id=b"},
		{"POST", "/v1/jobs/events", auth.Read, a.postEvents, `the same of many jobs: {"ids": ["…"]}`},
	}
}
