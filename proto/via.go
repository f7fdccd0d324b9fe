package proto

import "context"

// MaxVia bounds how many proxies are remembered of a request, and named to the next server.
const MaxVia = 64

type viaKey struct{}

// WithVia returns a context for work that requests cause which came through proxies: their
// pseudonyms, as the Via field names them (RFC 9110, section 7.6.3). Another node that is asked
// within this context names them to upstream, so that each proxy recognises a request of its own
// that comes back. Nobody changes via afterwards.
func WithVia(ctx context.Context, via []string) context.Context {
	if len(via) == 0 {
		return ctx
	}
	return context.WithValue(ctx, viaKey{}, via)
}

// Via returns the proxies that the requests behind ctx came through; nil for none.
func Via(ctx context.Context) []string {
	via, _ := ctx.Value(viaKey{}).([]string)
	return via
}
