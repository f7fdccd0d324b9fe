package front

import (
	"html"
	"net/http"
	"strings"
)

// usagePhrase is what auto-apt-proxy looks for, with a status of 406, to recognise a cache
// for apt (its detection greps apt-helper's output for "406.*usage.information").
const usagePhrase = "Usage Information"

// page answers a request for the node itself: how to point a host here.
func (x *exchange) page() {
	host := x.r.Host
	if host == "" || !plainHost(host) {
		host = "this-node:3142"
	}
	a := answer{
		verdict: verdict{status: http.StatusNotAcceptable},
		cache:   cacheNever,
		age:     -1,
		phrase:  usagePhrase,
		note:    note{result: resultPage, age: -1, reason: reasonRoot},
	}
	text := pageText(x.usable(), host)
	accept := first(x.r.Header["Accept"])
	if strings.Contains(accept, "text/plain") && !strings.Contains(accept, "text/html") {
		a.contentType, a.text = typeText, text
	} else {
		a.contentType = "text/html; charset=utf-8"
		a.text = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>aptmesh: a cache for APT archives</title></head>\n<body><pre>\n" +
			html.EscapeString(text) + "</pre></body></html>\n"
	}
	a.length = int64(len(a.text))
	x.sendText(&a)
}

// usable are the archives that this client may have.
func (x *exchange) usable() []Archive {
	var open []Archive
	for _, a := range x.rules.routes.archives {
		if g := x.rules.guard(a.Name); g == nil || g.closedBy(x.peer()) == "" {
			open = append(open, a)
		}
	}
	return open
}

// plainHost keeps what is no host out of the page.
func plainHost(host string) bool {
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".-_:[]", c) >= 0) {
			return false
		}
	}
	return len(host) <= 255
}

func pageText(archives []Archive, host string) string {
	var b strings.Builder
	line := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
		b.WriteByte('\n')
	}
	line("aptmesh: a cache for APT archives.")
	line()
	line("There is nothing to see at this address for a browser, hence the status 406.")
	line("To point a host here, take one of two ways.")
	line()
	line("1. As a proxy. The host's sources stay as they are; write to ", HostFile, ":")
	line()
	b.WriteString(indented(HostSettings("http://"+host), "   "))
	line()
	line("2. By address. Write to the same file only")
	line()
	line("   ", RetrySetting)
	line()
	line("   and in /etc/apt/sources.list and /etc/apt/sources.list.d/ replace")
	line()
	if len(archives) == 0 {
		line("   (no archive is configured, or none for your address: see the config key archives:)")
	}
	for _, a := range archives {
		line("   ", bareURL(a), "   by   http://", host, "/", a.Name)
	}
	if len(archives) > 0 {
		a := archives[0]
		line()
		line("   for example, as one line and as deb822:")
		line()
		line("   deb http://", host, "/", a.Name, " <suite> main")
		line()
		line("   Types: deb")
		line("   URIs: http://", host, "/", a.Name)
		line("   Suites: <suite>")
		line("   Components: main")
	}
	line()
	line(`"aptmesh why URL" on this node explains any answer; so does its field X-Aptmesh.`)
	return b.String()
}

// bareURL is the upstream's URL without user information.
func bareURL(a Archive) string {
	return a.Upstream.Scheme + "://" + a.Upstream.Host + strings.TrimSuffix(a.Upstream.EscapedPath(), "/")
}
