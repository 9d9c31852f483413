package auth

import (
	"errors"
	"strings"
)

// ErrUnavailable says that a token cannot be checked now: a key that it may need cannot be had. It is no refusal, and
// no leave either: try later (503).
var ErrUnavailable = errors.New("the token cannot be checked now")

// Refusal is the error of credentials that are not taken (401). Reason never has them in it.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

func refuse(reason string) error { return &Refusal{reason} }

// Bearer takes the credentials out of the values of an Authorization header, or of metadata of that name. "" is none.
func Bearer(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", refuse("there is more than one Authorization header")
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") {
		return "", refuse("expected Authorization: Bearer with an API key or a token, not another scheme")
	}
	if token == "" || strings.ContainsAny(token, " \t,") {
		return "", refuse("expected one API key or token behind Bearer")
	}
	return token, nil
}
