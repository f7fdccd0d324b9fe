package peers

import (
	"strconv"
	"strings"
)

// plain says in our own words what gRPC and the network say of a call that failed.
// What a node answered passes unchanged.
func plain(text string) string {
	// gRPC quotes the cause: latest balancer error: connection error: desc = "transport: …".
	for {
		_, rest, quoted := strings.Cut(text, `desc = `)
		if !quoted {
			break
		}
		text = unquoted(rest)
	}
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("authentication handshake failed: "):
		_, why, _ := strings.Cut(text, "authentication handshake failed: ")
		if strings.HasPrefix(why, "EOF") || strings.Contains(why, "reset by peer") || strings.Contains(why, "deadline exceeded") {
			return "it ends the connection at once: it stops or starts, or speaks no TLS"
		}
		return "the certificates do not fit: " + certificates(why)
	case has("connection refused"):
		return "nothing listens there" + address(text)
	case has("no route to host", "network is unreachable"):
		return "there is no route to it" + address(text)
	case has("no such host", "name resolver error", "produced zero addresses"):
		return "its name cannot be looked up"
	case has("i/o timeout", "deadline exceeded", "deadline expired"):
		return "no answer in time" + address(text)
	case has("connection reset", "broken pipe", "EOF", "error reading from server", "transport is closing", "connection closed", "connection is draining", "GOAWAY", "goaway"):
		return "the connection broke"
	}
	return strings.TrimPrefix(text, "transport: ")
}

// unquoted is a text without the quotes that it stands in, and without the backslashes that these brought.
func unquoted(text string) string {
	if bare, err := strconv.Unquote(text); err == nil {
		return bare
	}
	return strings.Trim(text, `"`)
}

// certificates says what crypto/tls finds wrong in a handshake. A "remote error" is what the other node finds.
func certificates(why string) string {
	switch {
	case strings.Contains(why, "remote error: "):
		_, alert, _ := strings.Cut(why, "remote error: ")
		return "it does not accept that of this node (" + strings.TrimPrefix(alert, "tls: ") + ")"
	case strings.Contains(why, "unknown authority"):
		return "its certificate is of another authority than this node's cluster.ca"
	case strings.Contains(why, "has expired or is not yet valid"):
		return "its certificate has expired, or is not valid yet by this node's clock"
	}
	return strings.TrimPrefix(why, "tls: ")
}

// address is " (host:port)" of a text of package net that names one.
func address(text string) string {
	_, rest, ok := strings.Cut(text, "dial tcp ")
	if !ok {
		return ""
	}
	at, _, ok := strings.Cut(rest, ": ")
	if !ok {
		return ""
	}
	return " (" + at + ")"
}
