package job

import (
	"net/url"
	"strconv"
	"strings"
)

// MaxWebhookBytes bounds the URL of a webhook.
const MaxWebhookBytes = 2048

// CheckWebhook says what is wrong with the URL of a webhook, nil if nothing is. Whether it may be called is for the
// process that would call it.
func CheckWebhook(field, s string) *Error {
	var dst string
	return setWebhook(&dst, field, s)
}

// setWebhook accepts an absolute http or https URL. The errors never repeat it: there may be a secret in its path.
func setWebhook(dst *string, field, s string) *Error {
	if s == "" {
		return nil
	}
	if len(s) > MaxWebhookBytes {
		return Invalidf(field, "expected a URL of at most %d bytes", MaxWebhookBytes)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return Invalidf(field, "expected a URL in ASCII, with everything else percent-encoded")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Opaque != "", u.Hostname() == "", !strings.EqualFold(u.Scheme, "https") && !strings.EqualFold(u.Scheme, "http"):
		return Invalidf(field, "expected an absolute URL, https://host/path")
	case u.User != nil:
		return Invalidf(field, "expected a URL without a user and a password: webhooks are signed instead")
	case u.Fragment != "":
		return Invalidf(field, "expected a URL without a fragment")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return Invalidf(field, "expected a port from 1 to 65535")
		}
	}
	*dst = s
	return nil
}
