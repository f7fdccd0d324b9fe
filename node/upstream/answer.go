package upstream

import (
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what an upstream may ask us to wait: its clock may be
// wrong, or its operator may have slipped.
const maxRetryAfter = 10 * time.Minute

// parseRetryAfter reads a Retry-After field, seconds or a date (RFC 9110,
// 10.2.3); 0 for what is neither, or is past.
func parseRetryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	if strings.Trim(s, "0123456789") == "" {
		seconds, err := strconv.ParseInt(s, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// contentRange is a Content-Range field; -1 stands for what it leaves open.
type contentRange struct{ start, end, total int64 }

// parseContentRange reads "bytes 0-99/200", "bytes 0-99/*" and "bytes */200" (RFC
// 9110, 14.4), and nothing else.
func parseContentRange(s string) (contentRange, bool) {
	unit, rest, ok := strings.Cut(s, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, false
	}
	span, total, ok := strings.Cut(rest, "/")
	if !ok {
		return contentRange{}, false
	}
	r := contentRange{-1, -1, -1}
	if total != "*" {
		if r.total, ok = digits(total); !ok {
			return contentRange{}, false
		}
	}
	if span == "*" {
		return r, r.total >= 0
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return contentRange{}, false
	}
	var ok1, ok2 bool
	r.start, ok1 = digits(first)
	r.end, ok2 = digits(last)
	if !ok1 || !ok2 || r.end < r.start || r.total >= 0 && r.end >= r.total {
		return contentRange{}, false
	}
	return r, true
}

// digits reads a number that is digits only and below the largest int64, so that
// one may be added to it.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n < math.MaxInt64
}

// isMarkup reports whether a Content-Type is that of an HTML page. It alone proves nothing: there
// are servers whose default type is text/html.
func isMarkup(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(strings.ToLower(contentType), ";")
	}
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// looksLikePage reports whether a body begins with markup.
func looksLikePage(head []byte) bool {
	text := strings.TrimPrefix(string(head), "\ufeff")
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "<")
}
