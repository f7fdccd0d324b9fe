package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// tcpGuard lets requests pass that came over TCP.
type tcpGuard struct {
	server   *Server
	loopback bool
}

func (g tcpGuard) protect(next http.Handler) http.Handler {
	return sameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.judge(r); err != nil {
			var said *Error
			if !errors.As(err, &said) {
				said = &Error{Message: err.Error()}
			}
			answer(w, http.StatusForbidden, said)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// judge says why a request is refused; nil lets it pass.
func (g tcpGuard) judge(r *http.Request) error {
	// The name of a scheme may be in lower case (RFC 9110).
	if scheme, shown, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return g.server.checkToken(shown)
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !g.loopback && read && (r.URL.Path == "/ready" || r.URL.Path == "/health"):
		return nil
	case !g.loopback:
		return errors.New("this address of the admin interface needs the token of admin_token_file, as `Authorization: Bearer TOKEN`")
	case !localHost(r.Host):
		return fmt.Errorf("the admin interface is not known as %q; use its IP address or localhost", r.Host)
	case !read:
		return &Error{Socket: g.server.socket, Message: "changes are taken at the unix socket " + g.server.socket +
			" only, or with the token of admin_token_file; run the command as root or as the user of the service"}
	case strings.HasPrefix(r.URL.Path, "/debug/pprof/") && !shortProfile(r.FormValue("seconds")):
		return &Error{Socket: g.server.socket, Message: fmt.Sprintf("seconds is %d at most here, because profiling slows the node down; "+
			"longer profiles are taken at the unix socket %s, or with the token of admin_token_file", maxProfileSeconds, g.server.socket)}
	}
	return nil
}

// maxProfileSeconds is how long a profile may take that any local user can ask for. It is what Go's own default takes.
const maxProfileSeconds = 30

// shortProfile reports whether a profile is no longer than that. What is no number is refused by the profiler itself, or
// means its default.
func shortProfile(seconds string) bool {
	n, err := strconv.ParseFloat(seconds, 64)
	return n <= maxProfileSeconds || err != nil && !errors.Is(err, strconv.ErrRange)
}

// localHost reports whether a Host header is one that no name in the DNS can
// cause: a name that an attacker owns may mean this machine, a number may not.
func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil
}

// checkToken compares what a client shows with the token, in constant time.
func (s *Server) checkToken(shown string) error {
	if s.cfg.TokenFile == "" {
		return errors.New("this node has no token: set admin_token_file, or use the unix socket")
	}
	token, err := ReadToken(s.cfg.TokenFile)
	if err != nil {
		return fmt.Errorf("admin_token_file: %w", err)
	}
	a, b := sha256.Sum256([]byte(shown)), sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return errors.New("this is not the token of admin_token_file")
	}
	return nil
}

const minToken, maxToken = 16, 4096

// ReadToken reads the token in a file. White space around it does not count.
func ReadToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := bytes.TrimSpace(text)
	switch {
	case len(text) > maxToken || bytes.ContainsAny(token, " \t\r\n"):
		return "", fmt.Errorf("%s must hold one word of at most %d bytes", file, maxToken)
	case len(token) < minToken:
		return "", fmt.Errorf("%s must hold a token of at least %d bytes, such as `openssl rand -hex 32` prints", file, minToken)
	}
	return string(token), nil
}

// sameOrigin refuses what a web page of another origin has a browser send. Reads
// are refused too: the standard library lets those pass, because there a page
// cannot see the answer.
func sameOrigin(next http.Handler) http.Handler {
	check := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asChange := *r
		asChange.Method = http.MethodPost
		if check.Check(&asChange) != nil {
			answer(w, http.StatusForbidden, Error{Message: "a web page of another origin sent this request; the admin interface answers none"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
