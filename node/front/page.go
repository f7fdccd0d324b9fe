package front

import (
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/proto"
)

// usagePhrase is what auto-apt-proxy looks for, with a status of 406, to recognise a cache
// for apt (its detection greps apt-helper's output for "406.*usage.information").
const usagePhrase = "Usage Information"

// Overview is what the page shows of the node.
type Overview struct {
	Since    time.Time // the start of the node, from when all is counted
	Requests int64
	// ToHosts, FromUpstream and FromPeers are bytes.
	ToHosts, FromUpstream, FromPeers int64
	Suites                           []OverviewSuite
	Nodes                            []OverviewNode // none where the node stands alone
}

// Saved is how much upstream did not have to send.
func (o Overview) Saved() int64 { return max(0, o.ToHosts-o.FromUpstream) }

// OverviewSuite is one suite of an archive.
type OverviewSuite struct {
	Archive, Name, State, Note string
	Generation, Checked        time.Time // zero for never
	Bad                        bool      // it needs attention
}

// OverviewNode is one node of the cluster.
type OverviewNode struct {
	Name, Datacenter, State, Note string
	Bad                           bool
}

// overviewAge is how old the figures on the page may be: gathering them takes time, and anybody can
// load the page.
const overviewAge = 5 * time.Second

// overviews caches the latest overview. Requests that come while it is gathered wait for it.
type overviews struct {
	mu     sync.Mutex
	latest Overview  // guarded by mu
	taken  time.Time // guarded by mu
}

func (o *overviews) get(gather func() Overview) Overview {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken.IsZero() || time.Since(o.taken) > overviewAge {
		o.latest, o.taken = gather(), time.Now()
	}
	return o.latest
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"when":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"ago": func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return humanize.Time(t)
	},
}).Parse(pageHTML))

// pageData is what the template shows.
type pageData struct {
	Node      string
	HostFiles []proto.HostFile
	Archives  []pageArchive
	Overview  *Overview
	Refused   []RefusedURL
}

type pageArchive struct{ Upstream, Here string }

// maxPageRefused bounds the list of what clients ask for in vain on the page.
const maxPageRefused = 50

// page answers a request for the node itself. A browser, which asks for HTML, gets a page. Anybody else
// gets a text at once with the status that tools which look for a cache expect.
func (x *exchange) page() {
	base := x.base()
	a := answer{
		verdict: verdict{status: http.StatusNotAcceptable}, cache: cacheNever, age: -1, phrase: usagePhrase,
		note: note{result: resultPage, age: -1, reason: reasonRoot}, contentType: typeText,
	}
	data := pageData{Node: x.f.cfg.Node}
	if x.rules.hostFiles != nil {
		data.HostFiles = x.rules.hostFiles(base, x.closed)
	}
	for _, archive := range x.usable() {
		data.Archives = append(data.Archives, pageArchive{bareURL(archive), base + "/" + archive.Name})
	}
	if classes := x.rules.routes.classes; classes != nil {
		for _, form := range classes.Forms() {
			class, _, _ := strings.Cut(form, "/*")
			data.Archives = append(data.Archives, pageArchive{"any archive of the class " + class, base + "/" + form})
		}
	}
	if !strings.Contains(first(x.r.Header["Accept"]), "text/html") {
		a.text = pageText(&data)
	} else {
		a.status, a.phrase, a.note.reason = http.StatusOK, "", ""
		a.contentType, a.text = "text/html; charset=utf-8", x.pageHTML(&data)
		// The page loads nothing and runs no script.
		x.w.Header()["Content-Security-Policy"] = []string{"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
	}
	a.length = int64(len(a.text))
	x.sendText(&a)
}

// pageHTML fills in what takes time. What a client may not have, it does not see: no suites of archives
// that are closed to it, and no addresses of other clients.
func (x *exchange) pageHTML(data *pageData) string {
	if x.f.gather != nil {
		o := x.f.overview.get(x.f.gather)
		o.Suites = slices.DeleteFunc(slices.Clone(o.Suites), func(s OverviewSuite) bool { return x.closed(s.Archive) })
		data.Overview = &o
	}
	data.Refused = x.f.Refused()
	data.Refused = data.Refused[:min(len(data.Refused), maxPageRefused)]
	var b strings.Builder
	if err := pageTemplate.Execute(&b, data); err != nil {
		x.f.log.Error("the page cannot be made", "error", err) // a fault of the template
	}
	return b.String()
}

// base is the URL of this node for a client: as configured, or else as the client wrote it.
func (x *exchange) base() string {
	if x.rules.publicURL != "" {
		return x.rules.publicURL
	}
	host := x.r.Host
	if host == "" || !plainHost(host) {
		host = "NODE:3142"
	}
	if x.r.TLS != nil || x.conn != nil && x.conn.secure {
		return "https://" + host
	}
	return "http://" + host
}

// usable are the archives that this client may have.
func (x *exchange) usable() []Archive {
	return slices.DeleteFunc(slices.Clone(x.rules.routes.archives), func(a Archive) bool { return x.closed(a.Name) })
}

// closed reports whether this client may not have an archive.
func (x *exchange) closed(archive string) bool {
	g := x.rules.guard(archive)
	return g != nil && g.closedBy(x.peer()) != ""
}

// plainHost keeps what is no host out of what a reader may paste into a shell.
func plainHost(host string) bool {
	for i := range len(host) {
		c := host[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(".-_:[]", c) >= 0) {
			return false
		}
	}
	return len(host) <= 255
}

func pageText(data *pageData) string {
	var b strings.Builder
	b.WriteString("aptmesh: a cache for package repositories.\n")
	for _, f := range data.HostFiles {
		b.WriteString("\nOn each host with " + f.Client + ":\n\n" + f.Command())
		if f.Note != "" {
			b.WriteString("\n" + f.Note + "\n")
		}
	}
	b.WriteString("\nThe archives, and their URLs here:\n\n")
	for _, a := range data.Archives {
		b.WriteString(a.Upstream + "   " + a.Here + "\n")
	}
	if len(data.Archives) == 0 {
		b.WriteString("(no archive is configured, or none for your address)\n")
	}
	b.WriteString("\n\"aptmesh why URL\" on the node explains any answer that a host gets. A browser sees more here.\n")
	return b.String()
}

// bareURL is the upstream's URL without user information.
func bareURL(a Archive) string {
	return a.Upstream.Scheme + "://" + a.Upstream.Host + strings.TrimSuffix(a.Upstream.EscapedPath(), "/")
}
