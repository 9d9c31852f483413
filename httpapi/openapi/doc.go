// Package openapi makes an OpenAPI 3.1 document out of Go types, and an HTML page out of such a document. What the document
// says is up to its caller, package httpapi.
//
// The page needs no script, nothing from elsewhere, and no browser that is new: it is rendered on the server from
// templates that are embedded in the program, so that it works without the internet and under a strict
// Content-Security-Policy.
package openapi
