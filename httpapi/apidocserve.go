package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi/openapi"
	"github.com/sheafml/sheaf/job"
)

// description is the OpenAPI document of an API.
type description struct {
	json []byte
	page func() (openapi.Document, error) // rendered for who asks first
}

func (a *API) describe(table []route) (*description, error) {
	doc, operations := a.document(table)
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document: %w", err)
	}
	page := sync.OnceValues(func() (openapi.Document, error) { return openapi.Page(doc, operations) })
	return &description{append(b, '\n'), page}, nil
}

// getOpenAPI answers GET /openapi.json.
func (a *API) getOpenAPI(w *response, r *http.Request) error {
	d, err := a.described()
	if err != nil {
		return err
	}
	sendTagged(w, r, job.ContentTypeJSON, d.json)
	return nil
}

// getDocs answers GET /docs. The commands on the page name the server as the client has.
func (a *API) getDocs(w *response, r *http.Request) error {
	d, err := a.described()
	if err != nil {
		return err
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	page, err := d.page()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", openapi.ContentSecurityPolicy)
	w.Header().Add("Vary", "Host")
	sendTagged(w, r, "text/html; charset=utf-8", page.For(scheme, r.Host))
	return nil
}

// getDocsAsset answers GET /docs/{asset}.
func (a *API) getDocsAsset(w *response, r *http.Request) error {
	media, body, ok := openapi.Asset(r.PathValue("asset"))
	if !ok {
		return &gateway.Problem{Code: codeNotFound, Detail: "the page has no such file"}
	}
	sendTagged(w, r, media, body)
	return nil
}

// sendTagged answers with what changes seldom: a client may keep it, and asks whether it still stands.
func sendTagged(w *response, r *http.Request, media string, body []byte) {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	for _, list := range r.Header.Values("If-None-Match") {
		for item := range strings.SplitSeq(list, ",") {
			if item = strings.TrimPrefix(strings.TrimSpace(item), "W/"); item == tag || item == "*" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
	}
	h.Set("Content-Type", media)
	send(w, http.StatusOK, body)
}
