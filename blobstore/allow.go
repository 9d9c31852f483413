package blobstore

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Allow says which URLs strangers may name: those that begin with one of the prefixes, such as s3://lake/in/. Without a
// prefix none may be named. A query, which could lead elsewhere, is the operator's to give: a stranger's URL has none, and
// gets that of the prefix.
type Allow struct{ Prefixes []string }

// Validate names every prefix that cannot be one.
func (a *Allow) Validate() error {
	for _, p := range a.Prefixes {
		u, err := url.Parse(p)
		if err != nil || u.Host == "" || !strings.HasSuffix(u.Path, "/") || u.Scheme != "s3" && u.Scheme != "gs" {
			return fmt.Errorf("%w: prefix %q: expected s3://BUCKET/… or gs://BUCKET/… that ends in a slash", ErrURL, strings.SplitN(p, "?", 2)[0])
		}
	}
	return nil
}

// Resolve returns the URL that is to be opened for one that a stranger names, or why it may not be.
func (a *Allow) Resolve(text string) (string, error) {
	l, err := parse(text)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || path.Clean("/"+l.key) != "/"+l.key {
		return "", fmt.Errorf("%w: %s: a plain scheme://bucket/key is expected, without a query", ErrURL, l.name)
	}
	for _, p := range a.Prefixes {
		prefix, query, _ := strings.Cut(p, "?")
		if strings.HasPrefix(l.name, prefix) {
			if query != "" {
				return text + "?" + query, nil
			}
			return text, nil
		}
	}
	return "", fmt.Errorf("%w: %s: this server opens no such URLs", ErrDenied, l.name)
}
