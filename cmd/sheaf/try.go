package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/sheafml/sheaf/examples"
)

// tryCommand is a command to copy: curl's where there is one, else our own. It trusts the very certificate of the API, and
// takes an API key from the environment. Where clients need a certificate, its files are for the reader to name.
func tryCommand(url, body string, api *apiSettings) string {
	_, err := exec.LookPath("curl")
	curl, options := err == nil, ""
	add := func(ofCurl, ofSheaf string) {
		if curl {
			options += " " + ofCurl
		} else if ofSheaf != "" {
			options += " " + ofSheaf
		}
	}
	if api.tls.enabled() {
		add("--cacert '"+api.tls.cert+"'", "--server-ca '"+api.tls.cert+"'")
	}
	if api.tls.mutual() {
		add("--cert client.pem --key client-key.pem", "--client-cert client.pem --client-key client-key.pem")
	}
	if api.auth.enabled() {
		add(`-H "Authorization: Bearer $SHEAF_API_KEY"`, "") // our own takes it by itself
	}
	if curl {
		return fmt.Sprintf("curl -sS%s %s/v1/models/%s/predict -H 'Content-Type: application/json' -d '%s'", options, url, examples.Digits, body)
	}
	self, err := os.Executable()
	if err != nil {
		self = "sheaf"
	}
	return fmt.Sprintf("'%s' submit %s '%s' --wait --server %s%s", self, examples.Digits, body, url, options)
}
