// Package fastlane stands before net/http and answers one kind of request by itself: a plain POST of a body that is
// there already. Whatever it is not sure of, it does not touch: the connection goes to net/http with every byte that was
// read of it, and stays there.
//
// net/http costs several times what such a request does. fasthttp was not taken: it is laxer than net/http about what it
// reads, and has no way to give a connection back.
//
// A [Lane] is the listener of an http.Server. It reads from each connection first:
//
//   - a request that is whole, and in every byte as a [Handler] expects it, is answered here,
//   - a body may come a moment after its headers; one that takes longer is net/http's to wait for,
//   - everything else, a malformed request in particular, is net/http's to answer.
package fastlane
