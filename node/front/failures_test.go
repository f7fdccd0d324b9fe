package front

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

var update = flag.Bool("update", false, "write the tables of docs/errors.md anew")

// Every word that the code has for a reason is explained, once, and docs/errors.md says the same.
func TestReasons(t *testing.T) {
	file, err := parser.ParseFile(gotoken.NewFileSet(), "problems.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "reason") {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, word)
		}
		return true
	})
	for _, kind := range proto.RejectKinds() {
		if !slices.Contains(words, string(kind)) {
			words = append(words, string(kind))
		}
	}
	if len(words) < 25 {
		t.Errorf("only %d words were found", len(words))
	}
	var known []string
	for _, r := range Reasons() {
		known = append(known, r.Word)
		if r.Means == "" || r.Next == "" {
			t.Errorf("%+v says too little", r)
		}
	}
	slices.Sort(words)
	slices.Sort(known)
	if !slices.Equal(words, known) {
		t.Errorf("the code has the reasons %v, the table %v", words, known)
	}

	var b strings.Builder
	b.WriteString("| status | `reason=` | what it means for the host | what the operator does |\n|---|---|---|---|\n")
	for _, r := range Reasons() {
		status := "broken off"
		if r.Status != 0 {
			status = strconv.Itoa(r.Status)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", status, r.Word, r.Means, r.Next)
	}
	const doc, begin, end = "../../docs/errors.md", "<!-- reasons: written by go test ./node/front -run TestReasons -update -->\n\n", "\n<!-- end of reasons -->\n"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of reasons", doc)
	}
	if *update {
		if err := os.WriteFile(doc, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != b.String() {
		t.Errorf("%s does not say what the table of reasons says; run it with -update", doc)
	}
}

// What a host got is found again under every way to write the URL.
func TestExplainFindsWhatHostsGot(t *testing.T) {
	d := startFront(t, func(c *Config) {
		c.Connect = []string{"good.example.org:443"}
		c.Archives[1].Deny = prefixes("127.0.0.0/8")
	})
	vendor := d.cfg.Archives[1]
	file := "dists/noble/InRelease"
	for _, tt := range []struct {
		method, asked string
		reason        string
		explained     []string
	}{
		{"GET", "/ubuntu/pool/none.deb", "not-found", []string{"/ubuntu/pool/none.deb", "http://node:3142/ubuntu/pool/none.deb", "http://archive.ubuntu.com/ubuntu/pool/none.deb", "http://HTTPS///archive.ubuntu.com/ubuntu/pool/none.deb"}},
		{"GET", "http://stranger.example.org/debian/x", "unknown-host", []string{"http://stranger.example.org/debian/x", "http://STRANGER.example.org:80/debian/x"}},
		{"GET", "/nothing/x", "unknown-prefix", []string{"/nothing/x", "http://node:3142/nothing/x"}},
		{"GET", "/ubuntu/dists/", "directory", []string{"/ubuntu/dists/"}},
		{"GET", "/ubuntu/../../a", "bad-request", []string{"/ubuntu/../../a"}},
		{"GET", "/ubuntu/pool/lost.deb?s3cret", "not-found", []string{"/ubuntu/pool/lost.deb?other", "/ubuntu/pool/lost.deb"}},
		{"GET", "http://stranger.example.net/rpm/x?s3cret", "unknown-host", []string{"http://stranger.example.net/rpm/x?other"}},
		{"PUT", "/ubuntu/b", "method", []string{"/ubuntu/b"}},
		{"GET", "/" + vendor.Name + "/" + file, "client-network", []string{"/" + vendor.Name + "/" + file, bareURL(vendor) + "/" + file}},
		{"CONNECT", "bad.example.org:443", "connect-refused", []string{"CONNECT bad.example.org:443", "CONNECT BAD.example.org:443"}},
	} {
		r, _ := d.ask(tt.method, tt.asked)
		if r.StatusCode < 400 {
			t.Fatalf("%s: %s", tt.asked, r.Status)
		}
		for _, url := range tt.explained {
			var f *Failure
			for range 100 { // the exchange ends after its answer
				if f = d.Explain(url).Latest; f != nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			if f == nil || f.Reason != tt.reason || f.Status != r.StatusCode || f.Text == "" || f.Client != "127.0.0.1" || f.Count != 1 {
				t.Errorf("%s %s, explained as %s: %+v", tt.method, tt.asked, url, f)
			}
		}
	}
	if e := d.Explain("CONNECT good.example.org:443"); e.Would != nil || e.Latest != nil {
		t.Errorf("%+v", e)
	}
	if e := d.Explain("/ubuntu/pool/other.deb"); e.Would != nil || e.Latest != nil {
		t.Errorf("%+v", e)
	}
	for url, want := range map[string]string{
		"https://esm.ubuntu.com/x": "CONNECT esm.ubuntu.com:443", "HTTPS://a:8443": "CONNECT a:8443", "https://[2001:db8::1]/": "CONNECT [2001:db8::1]:443", "http://a/": "", "/https": "",
	} {
		if got := Tunnel(url); got != want {
			t.Errorf("%s: %q", url, got)
		}
	}
}

// The list of what is asked for in vain is grouped by archive, bounded, and keeps what matters.
func TestRefusedURLs(t *testing.T) {
	d := startFront(t, func(c *Config) {
		c.ArchiveRoot = func(path string) string { root, _, _ := strings.Cut(path, "/dists/"); return root }
	})
	for _, suite := range []string{"noble", "jammy"} {
		d.ask("GET", "http://user:secret@ppa.example.org:80/a/ppa/ubuntu/dists/"+suite+"/InRelease")
	}
	d.ask("GET", "/old-cache/dists/noble/InRelease")
	d.ask("CONNECT", "esm.example.org:443")
	d.ask("GET", "/ubuntu/none") // no refusal: it may be mended at the host only
	var got []string
	for range 200 {
		got = nil
		for _, r := range d.Refused() {
			got = append(got, fmt.Sprintf("%d %s %s %v", r.Requests, r.URL, r.Reason, r.Clients))
			if strings.Contains(fmt.Sprint(r), "secret") {
				t.Errorf("%+v", r)
			}
		}
		if len(got) == 3 && strings.HasPrefix(got[0], "2 ") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	want := []string{
		"2 http://ppa.example.org/a/ppa/ubuntu unknown-host [127.0.0.1]",
		"1 /old-cache unknown-prefix [127.0.0.1]",
		"1 CONNECT esm.example.org:443 connect-refused [127.0.0.1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	var l refusedURLs
	now := testTime
	for range 3 {
		l.add("http://real.example.org/debian", reasonHost, "x", "10.0.0.1", now)
	}
	for i := range 10 * maxRefusedURLs {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()
		l.add(fmt.Sprintf("http://scan%d.example.org", i), reasonHost, "x", addr, now.Add(time.Duration(i)*time.Second))
		l.add("http://real.example.org/debian", reasonHost, "x", addr, now)
	}
	real := l.all["http://real.example.org/debian "+reasonHost]
	if len(l.all) != maxRefusedURLs || real == nil || real.Requests != 3+10*maxRefusedURLs || len(real.Clients) != maxRefusedClients || !real.More {
		t.Errorf("%d URLs, %+v", len(l.all), real)
	}
	if _, ok := l.all[fmt.Sprintf("http://scan%d.example.org %s", 10*maxRefusedURLs-1, reasonHost)]; !ok {
		t.Error("the latest is not in the list")
	}
	// What is old goes, however often it was asked for.
	l.add("http://new.example.org", reasonHost, "x", "", now.Add(2*refusedAge))
	if len(l.all) != 1 {
		t.Errorf("%d URLs after a month", len(l.all))
	}
}

// A client cannot make the node remember more than a bound.
func TestFailuresAreBounded(t *testing.T) {
	d := startFront(t)
	for i := range 2 * maxFailures {
		x := &exchange{f: d.Front, rules: d.rules.Load(), loc: proto.Location{Archive: "ubuntu", Path: strconv.Itoa(i)}, status: 404, said: "no", note: note{reason: reasonNotFound}}
		x.r = &http.Request{Method: "GET", RequestURI: "/"}
		x.remember()
	}
	if n := d.failures.Len(); n != maxFailures {
		t.Errorf("%d failures are remembered", n)
	}
	x := &exchange{f: d.Front, rules: d.rules.Load(), status: 499, note: note{reason: reasonClient}, r: &http.Request{Method: "GET", RequestURI: "/ubuntu/went"}}
	if x.remember(); d.Explain("/ubuntu/went").Latest != nil {
		t.Error("a client that went away got no error")
	}
}

// What is answered well again is no error any more; what else fails still is.
func TestErrorsThatAreSolved(t *testing.T) {
	d := startFront(t)
	answer := func(path, reason string) {
		x := &exchange{f: d.Front, rules: d.rules.Load(), status: 403, note: note{reason: reason}}
		x.loc, x.r = proto.Location{Archive: "ubuntu", Path: path}, &http.Request{Method: "GET", RequestURI: "/ubuntu/" + path}
		x.remember()
	}
	errorsOf := func() (all []string) {
		for _, e := range d.ArchiveErrors()["ubuntu"] {
			all = append(all, e.Reason+" "+e.URL)
		}
		return all
	}
	answer("a", reasonCorrupt)
	answer("b", reasonDisk)
	answer("c", "")
	if got := errorsOf(); !slices.Equal(got, []string{"corrupt /ubuntu/a", "disk /ubuntu/b"}) {
		t.Errorf("another file is no proof: %q", got)
	}
	answer("a", "")
	if got := errorsOf(); !slices.Equal(got, []string{"disk /ubuntu/b"}) {
		t.Errorf("after a good answer: %q", got)
	}
	answer("c", reasonDisk)
	answer("b", "")
	if got := errorsOf(); !slices.Equal(got, []string{"disk /ubuntu/c"}) {
		t.Errorf("after a good answer for what failed before the latest: %q", got)
	}
}

// Errors of an archive count in a row, are bounded, and are forgotten by themselves.
func TestErrorsOfAnArchive(t *testing.T) {
	d := startFront(t)
	fail := func(archive, reason string, at time.Time) {
		x := &exchange{f: d.Front, rules: d.rules.Load(), loc: proto.Location{Archive: archive, Path: "x"}, r: &http.Request{Method: "GET", RequestURI: "/" + archive + "/x"}}
		x.noteErrors(Failure{Reason: reason, Text: "wrong"}, at)
	}
	now := time.Now()
	fail("debian", reasonCorrupt, now.Add(-archiveErrorAge-time.Second))
	if e := d.ArchiveErrors(); len(e) != 0 {
		t.Errorf("what is old: %+v", e)
	}
	fail("ubuntu", reasonCorrupt, now.Add(-2*time.Minute))
	fail("ubuntu", reasonCorrupt, now)
	fail("ubuntu", reasonDisk, now)
	for _, r := range []string{reasonNotFound, reasonDirectory, reasonRange, reasonDrain, reasonClientNet} {
		fail("ubuntu", r, now)
	}
	want := []ArchiveErrors{
		{reasonCorrupt, 2, now.Add(-2 * time.Minute), now, "/ubuntu/x", "wrong"},
		{reasonDisk, 1, now, now, "/ubuntu/x", "wrong"},
	}
	if e := d.ArchiveErrors(); len(e) != 1 || !slices.Equal(e["ubuntu"], want) {
		t.Errorf("%+v, want %+v", e, want)
	}
	for i := range 2 * maxArchiveErrors {
		fail(strconv.Itoa(i), reasonUnavailable, now)
	}
	if n := d.archiveErrors.Len(); n != maxArchiveErrors {
		t.Errorf("%d are remembered", n)
	}
}
