// Package auth says who is calling and what they may do: API keys, JWTs of an OpenID Connect issuer, and how many jobs
// a second each of them may submit. It speaks no protocol of its own: package httpapi and package grpcapi hand it the
// bearer token of a request, and get a [Principal].
//
// # API keys
//
// A key is the text sheaf_<id>_<secret>. It is shown once, by [Issue]; what is stored is a [Key], with a SHA-256 of the
// secret. A [Keyring] follows the bucket of keys by a watch, so a key that is revoked is refused everywhere a moment
// later, and while NATS is out of reach the keys that were known go on working. A SHA-256 is enough, and a slow hash
// would only cost: the secret is 200 random bits, which nobody guesses.
//
// # JWTs
//
// [NewTokens] takes the public keys of an issuer by discovery, from a JWKS URL or from a file. Only asymmetric
// algorithms are accepted, whatever a token says of itself. A token has to name the issuer and the audience, and has to
// expire.
package auth
