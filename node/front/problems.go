package front

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The words that X-Aptmesh and the access log give as reason of an error.
const (
	reasonRequest     = "bad-request"
	reasonMethod      = "method"
	reasonRoot        = "root-page"
	reasonHost        = "unknown-host"
	reasonPrefix      = "unknown-prefix"
	reasonDirectory   = "directory"
	reasonConnect     = "connect-refused"
	reasonTunnels     = "too-many-tunnels"
	reasonDrain       = "draining"
	reasonNotFound    = "not-found"
	reasonRefused     = "refused"
	reasonUnavailable = "unavailable"
	reasonCorrupt     = "corrupt"
	reasonInternal    = "internal"
	reasonCondition   = "precondition"
	reasonRange       = "range"
	reasonStream      = "broken-stream"
	reasonClient      = "client-gone"
	reasonClientNet   = "client-network"
	reasonConnections = "too-many-connections"
)

// refusal is an answer without an object. As an error its text is the sentence
// that the client gets.
type refusal struct {
	status     int
	reason     string
	text       string
	retryAfter int    // seconds, 0 for none
	allow      string // of a 405
	closing    bool   // the connection ends with this answer
}

func (r *refusal) Error() string { return r.text }

func badRequest(text string) *refusal {
	return &refusal{status: http.StatusBadRequest, reason: reasonRequest, text: text}
}

// apt waits for at most 30 seconds, whatever Retry-After says (since 2.9.12).
const (
	retryDefault = 5
	retryMost    = 30
)

// refuse maps the error of a Catalog or Fetcher to an answer. apt tries again by
// itself on 408, 429, 500, 502, 503 and 504, and takes anything else as final; so
// trouble that may pass must never come out as 404, even where the error says both.
func refuse(loc proto.Location, err error) *refusal {
	var unavailable *proto.Unavailable
	var refused *proto.Refused
	what, cause := quote(loc.String())+": ", quote(err.Error())
	switch {
	case errors.As(err, &unavailable):
		wait := retrySeconds(unavailable.RetryAfter)
		return &refusal{
			status: http.StatusServiceUnavailable, reason: reasonUnavailable, retryAfter: wait,
			text: what + "cannot be had at the moment: " + cause + "; ask again in " + strconv.Itoa(wait) + " seconds",
		}
	case errors.Is(err, proto.ErrNoSpace), errors.Is(err, context.DeadlineExceeded):
		return &refusal{
			status: http.StatusServiceUnavailable, reason: reasonUnavailable, retryAfter: retryDefault,
			text: what + "cannot be had at the moment: " + cause + "; ask again in " + strconv.Itoa(retryDefault) + " seconds",
		}
	case errors.Is(err, proto.ErrCorrupt):
		return &refusal{
			status: http.StatusBadGateway, reason: reasonCorrupt,
			text: what + cause + "; nothing of it was passed on or kept, and it will be fetched again when asked for",
		}
	case errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusGone),
		!errors.As(err, &refused) && errors.Is(err, proto.ErrNotFound):
		return &refusal{
			status: http.StatusNotFound, reason: reasonNotFound,
			text: what + "the archive has no such file; if a package list names it, run apt update",
		}
	case errors.As(err, &refused):
		r := &refusal{
			status: http.StatusBadGateway, reason: reasonRefused,
			text: what + "upstream refuses it: " + cause + "; see upstream and credentials of this archive in the node's configuration",
		}
		switch refused.Status {
		case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden,
			http.StatusProxyAuthRequired, http.StatusUnavailableForLegalReasons:
			r.status = http.StatusForbidden
		}
		return r
	}
	return &refusal{
		status: http.StatusInternalServerError, reason: reasonInternal,
		text: what + "the node failed: " + cause + "; its log and \"aptmesh why\" tell more",
	}
}

// retrySeconds rounds up to whole seconds from 1 to retryMost.
func retrySeconds(d time.Duration) int {
	if d <= 0 {
		return retryDefault
	}
	return int(max(1, min(retryMost, (d+time.Second-1)/time.Second)))
}

// maxText bounds a sentence, and maxQuote what of a request or an error is repeated in
// one, in bytes: the advice after it must not be lost.
const (
	maxText  = 2000
	maxQuote = 500
)

func quote(s string) string {
	if len(s) > maxQuote {
		return s[:maxQuote] + "..."
	}
	return s
}

// clean makes text fit for one line of plain ASCII that gives away no password: a
// user part of any URL in it is replaced.
func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	text = hideUserinfo(text)
	for i := range len(text) {
		if !plainByte(text[i]) {
			return strings.Map(func(r rune) rune {
				switch {
				case r == '…':
					return '.'
				case r < ' ' || r > '~':
					return '?'
				}
				return r
			}, text)
		}
	}
	return text
}

func plainByte(c byte) bool { return c >= ' ' && c <= '~' }

// hideUserinfo replaces what stands between "://" and "@" in the authority of every
// URL in text.
func hideUserinfo(text string) string {
	for from := 0; ; {
		i := strings.Index(text[from:], "://")
		if i < 0 {
			return text
		}
		from += i + len("://")
		end := strings.IndexAny(text[from:], "/?# \t\"'\n")
		if end < 0 {
			end = len(text) - from
		}
		if at := strings.LastIndexByte(text[from:from+end], '@'); at >= 0 {
			text = text[:from] + "***" + text[from+at:]
		}
	}
}
