package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// maxSubject bounds the subject of a token, which logs have in them.
const maxSubject = 256

// principal is whom the claims speak of.
func (t *Tokens) principal(c *claims) (*Principal, error) {
	p := &Principal{Kind: KindToken, ID: c.Subject}
	if p.ID == "" || !job.ValidText(p.ID, maxSubject) {
		return nil, refuse("the token does not say whose it is: expected the claim sub")
	}
	var err error
	if p.Tenant, err = t.tenant(c.all); err != nil {
		return nil, err
	}
	scopes, _, err := texts(c.all, t.cfg.ScopeClaim)
	if err != nil {
		return nil, err
	}
	for _, s := range Scopes() {
		if slices.Contains(scopes, string(s)) {
			p.Scopes = append(p.Scopes, s)
		}
	}
	if t.cfg.ModelsClaim == "" {
		return p, nil
	}
	models, given, err := texts(c.all, t.cfg.ModelsClaim)
	if err != nil {
		return nil, err
	}
	if given && len(models) == 0 {
		return nil, refuse(fmt.Sprintf("the token is for no model: its claim %s is empty", t.cfg.ModelsClaim))
	}
	p.Models = models
	return p, nil
}

// tenant is the tenant of a token.
func (t *Tokens) tenant(all map[string]any) (string, error) {
	claim := t.cfg.TenantClaim
	value, given := lookup(all, claim)
	if !given {
		if t.cfg.DefaultTenant == "" {
			return "", refuse(fmt.Sprintf("the token has no tenant: expected the claim %s", claim))
		}
		return t.cfg.DefaultTenant, nil
	}
	tenant, ok := value.(string)
	if !ok || !job.ValidName(tenant) {
		return "", refuse(fmt.Sprintf("the token's tenant, its claim %s, is not letters, digits, '-', '_' and '.', at most 128", claim))
	}
	return tenant, nil
}

// lookup finds a claim by its name, or else by its path: "a.b" is b in a.
func lookup(all map[string]any, name string) (any, bool) {
	if name == "" {
		return nil, false
	}
	if v, ok := all[name]; ok {
		return v, true
	}
	first, rest, ok := strings.Cut(name, ".")
	inner, is := all[first].(map[string]any)
	if !ok || !is {
		return nil, false
	}
	return lookup(inner, rest)
}

// texts reads a claim that is a list of texts, or a text with spaces between them.
func texts(all map[string]any, name string) (list []string, given bool, err error) {
	value, given := lookup(all, name)
	if !given {
		return nil, false, nil
	}
	switch v := value.(type) {
	case string:
		return strings.Fields(v), true, nil
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, true, refuse(fmt.Sprintf("the claim %s of the token is not a list of texts", name))
			}
			list = append(list, s)
		}
		return list, true, nil
	}
	return nil, true, refuse(fmt.Sprintf("the claim %s of the token is neither a text nor a list of texts", name))
}
