package differential

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// servers are upstreams that speak HTTP in odd ways.
func servers() []row {
	does := func(name, pattern string, effects ...testarchive.Effect) row {
		return row{name: name, sources: debSrc, serve: func(s *site) { s.server.Inject(pattern, 0, effects...) }}
	}
	// answers changes the answer of the server behind it.
	answers := func(name string, change func(r *http.Request, resp *httptest.ResponseRecorder)) row {
		return row{name: name, sources: debSrc, wrap: func(_ *site, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				change(r, rec)
				for name, values := range rec.Header() {
					w.Header()[name] = values
				}
				w.WriteHeader(rec.Code)
				_, _ = w.Write(rec.Body.Bytes()) // a client that went away is none of our business
			})
		}}
	}
	// moved redirects what matches to another prefix of the same server.
	moved := func(name string, code int, match func(path string) bool) row {
		return row{name: name, sources: debSrc, wrap: func(_ *site, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if rest, ok := strings.CutPrefix(r.URL.Path, "/mirror"); ok {
					r.URL.Path = rest
				} else if match(r.URL.Path) {
					http.Redirect(w, r, "/mirror"+r.URL.EscapedPath(), code)
					return
				}
				next.ServeHTTP(w, r)
			})
		}}
	}
	isPackage := func(path string) bool { return strings.HasPrefix(path, "/pool/") }
	isInRelease := func(path string) bool { return strings.HasSuffix(path, "/InRelease") }
	isRoot := func(path string) bool { return isInRelease(path) || strings.Contains(path, "/Release") }
	// apt takes the indexes from the site that InRelease was redirected to; here they are
	// nowhere else (pkgAcqMetaBase::CheckDownloadDone, pkgAcqTransactionItem::QueueURI).
	elsewhere := func(name string, code int, hashed bool) row {
		return row{name: name, sources: debSrc, suite: testarchive.Suite{ByHash: hashed}, wrap: func(s *site, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case isInRelease(r.URL.Path):
					http.Redirect(w, r, s.server.URL+r.URL.EscapedPath(), code)
				case strings.HasPrefix(r.URL.Path, "/dists/noble/main/"):
					http.NotFound(w, r)
				default:
					next.ServeHTTP(w, r)
				}
			})
		}}
	}
	// The same for a repository that has another directory there: apt wants the path below the host's URL kept, no more.
	movedDir := row{name: "InRelease is redirected to another directory of another site, the indexes are there alone",
		sources: "deb [signed-by=KEYRING] URL/repo /", suite: testarchive.Suite{Name: "repo", Flat: true},
		lay: func(s *site, _ int) { s.copyTree("repo", "moved/here") },
		wrap: func(s *site, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/repo/InRelease":
					http.Redirect(w, r, s.server.URL+"/moved/here/InRelease", http.StatusFound)
				case strings.HasPrefix(r.URL.Path, "/repo/Packages"):
					http.NotFound(w, r)
				default:
					next.ServeHTTP(w, r)
				}
			})
		}}
	toHost := row{name: "packages are redirected to another host", sources: debSrc, wrap: func(s *site, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPackage(r.URL.Path) {
				http.Redirect(w, r, s.server.URL+r.URL.EscapedPath(), http.StatusFound)
				return
			}
			next.ServeHTTP(w, r)
		})
	}}
	olderClock := does("304 by a back-end with an older clock", "*", testarchive.NoETag())
	olderClock.stuck = true
	olderClock.lay = func(s *site, gen int) {
		for _, name := range []string{inRelease, release, signature} {
			s.archive.Put(name, s.rendered(name), date(1).Add(-time.Duration(gen)*10*time.Minute))
		}
	}
	html := does("everything is text/html", "*", testarchive.Header("Content-Type", "text/html"))
	http10 := row{name: "HTTP/1.0", sources: debSrc, wrap: func(_ *site, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			fmt.Fprintf(buf, "HTTP/1.0 %d %s\r\nContent-Length: %d\r\nLast-Modified: %s\r\n\r\n", rec.Code, http.StatusText(rec.Code), rec.Body.Len(), rec.Header().Get("Last-Modified"))
			_, _ = buf.Write(rec.Body.Bytes())
			_ = buf.Flush()
		})
	}}
	noReason := row{name: "no reason phrase", sources: debSrc, stuck: true, wrap: func(_ *site, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			fmt.Fprintf(buf, "HTTP/1.1 %d \r\nContent-Length: %d\r\nConnection: close\r\n\r\n", rec.Code, rec.Body.Len())
			_, _ = buf.Write(rec.Body.Bytes())
			_ = buf.Flush()
		})
	}}
	denied := func(name string, code int) row {
		r := answers(name, func(_ *http.Request, rec *httptest.ResponseRecorder) {
			if rec.Code == http.StatusNotFound {
				rec.Code = code
			}
		})
		return r
	}
	deniedOptional := denied("403 for what is absent, an optional file", http.StatusForbidden)
	deniedOptional.suite.Translations, deniedOptional.refused = true, true
	deniedOptional.lay = func(s *site, _ int) {
		for name := range s.archive.Files() {
			if strings.Contains(name, "/i18n/") {
				s.archive.Delete(name)
			}
		}
	}
	deniedByHash := denied("403 for what is absent, names by hash", http.StatusForbidden)
	deniedByHash.suite.ByHash = true
	deniedByHash.lay = func(s *site, _ int) {
		for name := range s.archive.Files() {
			if strings.Contains(name, "/by-hash/") {
				s.archive.Delete(name)
			}
		}
	}
	gonePair := denied("410 for what is absent, no InRelease", http.StatusGone)
	gonePair.suite.NoInRelease, gonePair.refused = true, true
	gonePair.allowed = []exception{{"apt takes through the node", "410 says of a file what 404 says; that apt goes on to Release after 404 alone helps nobody"}}
	deniedPair := denied("403 for what is absent, no InRelease", http.StatusForbidden)
	deniedPair.suite.NoInRelease = true
	deniedPair.refused = true
	modified := func(name, value string) row {
		return does(name, "*", testarchive.NoETag(), testarchive.IgnoreConditional(), testarchive.Header("Last-Modified", value))
	}
	inPackages := does("chunked", "*", testarchive.NoContentLength())
	inPackages.everywhere = true
	return []row{
		does("no Last-Modified on roots", "*Release*", testarchive.NoLastModified()),
		does("no Last-Modified and no ETag on roots", "*Release*", testarchive.NoLastModified(), testarchive.NoETag()),
		does("no Last-Modified and no ETag at all", "*", testarchive.NoLastModified(), testarchive.NoETag()),
		does("no ETag", "*", testarchive.NoETag()),
		does("never 304", "*", testarchive.IgnoreConditional()),
		does("never a range", "*", testarchive.NoRange()),
		does("no types", "*", testarchive.Header("Content-Type", "")),
		does("all is application/octet-stream in gzip's name", "*", testarchive.Header("Content-Type", "application/x-gzip")),
		does("roots are text/html", "*Release*", testarchive.Header("Content-Type", "text/html; charset=utf-8")),
		does("packages are text/html", "*.deb", testarchive.Header("Content-Type", "text/html")), html,
		does("Cache-Control no-store and Vary", "*", testarchive.Header("Cache-Control", "no-store, private"), testarchive.Header("Vary", "*")),
		does("an old Varnish on the way", "*", testarchive.Header("Via", "1.1 varnish (Varnish/5.0)")),
		does("connections end after each answer", "*", testarchive.Header("Connection", "close")),
		does("cookies", "*", testarchive.Header("Set-Cookie", "a=b; Path=/")),
		does("gzip as Content-Encoding to whoever accepts it", "*", testarchive.GzipEncoding()),
		does("a weak ETag, the same for all", "*", testarchive.Header("ETag", `W/"1"`), testarchive.IgnoreConditional()),
		modified("Last-Modified in 1970", "Thu, 01 Jan 1970 00:00:00 GMT"),
		modified("Last-Modified in 2099", "Thu, 01 Jan 2099 00:00:00 GMT"),
		modified("Last-Modified that does not change", "Thu, 02 Jan 2025 08:09:10 GMT"),
		inPackages, olderClock, http10, noReason,
		moved("packages are redirected, 302", http.StatusFound, isPackage),
		moved("packages are redirected, 301", http.StatusMovedPermanently, isPackage),
		moved("packages are redirected, 307", http.StatusTemporaryRedirect, isPackage),
		moved("packages are redirected, 308", http.StatusPermanentRedirect, isPackage),
		moved("packages are redirected, 303", http.StatusSeeOther, isPackage),
		moved("everything is redirected", http.StatusFound, func(string) bool { return true }),
		moved("roots are redirected", http.StatusFound, isRoot),
		elsewhere("InRelease is redirected to another site, the indexes are there alone", http.StatusFound, false),
		elsewhere("InRelease is redirected for good, the indexes are there alone, by hash", http.StatusMovedPermanently, true),
		movedDir, toHost, deniedOptional, deniedByHash, gonePair, deniedPair,
	}
}
