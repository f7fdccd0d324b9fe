package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
)

// raw sends one request with its target as it is, and returns the connection with the answer. The body
// is not read yet.
func (w *world) raw(method, target string, header ...string) (*http.Response, net.Conn) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.node.Addrs()[0])
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	extra := strings.Join(append(header, ""), "\r\n")
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: cache:3142\r\n%s\r\n", method, target, extra); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, conn
}

// whyCases produce each error that a host can see, in a node of their own. They return the URL that
// a host got it for.
var whyCases = map[string]struct {
	change func(*config.Config)
	cause  func(*world) (resp *http.Response, url string)
	// says is what the sentences must name beside the reason.
	says string
}{
	"bad-request":    {cause: asks("GET", "/ubuntu/../../InRelease"), says: "path"},
	"method":         {cause: asks("POST", "/ubuntu/dists/noble/InRelease"), says: "POST"},
	"root-page":      {cause: asks("GET", "/"), says: "406"},
	"unknown-host":   {cause: asks("GET", "http://stranger.example.org/debian/dists/sid/InRelease"), says: "stranger.example.org"},
	"unknown-prefix": {cause: asks("GET", "/stranger/dists/sid/InRelease"), says: "stranger"},
	"directory":      {cause: asks("GET", "/ubuntu/dists/"), says: "directory"},
	"connect-refused": {cause: func(w *world) (*http.Response, string) {
		resp, _ := w.raw("CONNECT", "esm.example.org:443")
		return resp, "https://esm.example.org/infra/ubuntu/dists/noble/InRelease"
	}, says: `Acquire::https::Proxy "DIRECT"`},
	"client-network": {
		change: func(c *config.Config) { c.Archives[0].Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
		cause:  asks("GET", "/ubuntu/dists/noble/InRelease"), says: "archives.ubuntu.deny",
	},
	"too-many-connections": {
		change: func(c *config.Config) { c.Clients.Connections = 1 },
		cause: func(w *world) (*http.Response, string) {
			w.raw("GET", "/ubuntu/dists/noble/InRelease")
			resp, _ := w.raw("GET", "/ubuntu/"+smallDeb)
			return resp, "/ubuntu/" + smallDeb
		}, says: "clients.connections",
	},
	"too-many-tunnels": {
		change: func(c *config.Config) {
			c.ConnectAllow = []string{strings.TrimPrefix(c.Archives[0].Upstream, "http://")}
		},
		cause: func(w *world) (resp *http.Response, url string) {
			at := strings.TrimPrefix(w.up.URL, "http://")
			for range 257 {
				resp, _ = w.raw("CONNECT", at)
			}
			return resp, "CONNECT " + at
		}, says: "tunnels",
	},
	"draining": {
		change: func(c *config.Config) { c.Drain.Timeout = 5 * time.Second },
		cause: func(w *world) (*http.Response, string) {
			w.mustGet(inRelease)
			stalled := w.up.Inject(largeDeb, 0, testarchive.Stall(100<<10))
			stopped := make(chan struct{})
			w.t.Cleanup(func() {
				stalled.Release()
				<-stopped
				w.node = nil
			})
			go w.get(largeDeb)
			<-stalled.Stalled()
			go func() {
				defer close(stopped)
				_ = w.node.Stop(context.Background())
			}()
			var resp *http.Response
			w.eventually("it drains", func() bool {
				resp, _ = w.raw("GET", "/ubuntu/"+smallDeb)
				return resp.StatusCode == 503
			})
			return resp, "/ubuntu/" + smallDeb
		}, says: "shutting down",
	},
	"unknown-snapshot": {cause: asks("GET", "/snapshot/ubuntu/w49/dists/noble/InRelease"), says: "aptmesh snapshot list"},
	"class-full": {
		change: func(c *config.Config) {
			c.Archives[0].Upstream += "/*/ubuntu"
			c.Archives[0].MaxArchives = 1
		},
		cause: func(w *world) (*http.Response, string) {
			w.up.Mount("/one/ubuntu", w.archive)
			if resp, _ := w.raw("GET", "/ubuntu/one/dists/noble/InRelease"); resp.StatusCode != 200 {
				w.t.Fatalf("the one archive of the class: %s", resp.Status)
			}
			return asks("GET", "/ubuntu/two/dists/noble/InRelease")(w)
		}, says: "max_archives",
	},
	"not-found": {cause: asks("GET", "http://archive.ubuntu.com/ubuntu/pool/main/n/none_1_amd64.deb"), says: "pool/main/n/none_1_amd64.deb",
		change: func(c *config.Config) { c.Archives[0].Aliases = []string{"http://archive.ubuntu.com/ubuntu"} }},
	"refused": {cause: failing(smallDeb, testarchive.Status(403, 0)), says: "HTTP 403"},
	"unavailable": {cause: func(w *world) (*http.Response, string) {
		w.up.Refuse()
		resp, _ := w.raw("GET", "/ubuntu/dists/noble/InRelease")
		return resp, "http://cache:3142/ubuntu/dists/noble/InRelease"
	}, says: "connection refused"},
	"untrusted": {
		change: func(c *config.Config) {
			c.Archives[0].SignedBy = []string{string(testarchive.NewKey("stranger", testarchive.KeyOptions{}).Armored())}
		},
		cause: asks("GET", "/ubuntu/dists/noble/InRelease"), says: "signed_by",
	},
	"malformed": {cause: func(w *world) (*http.Response, string) {
		return failing(inRelease, testarchive.Replace(append([]byte("junk\n"), w.file(inRelease)...)))(w)
	}, says: "signed"},
	"future": {cause: func(w *world) (*http.Response, string) {
		w.archive.Publish(time.Now().Add(time.Hour))
		return asks("GET", "/ubuntu/dists/noble/InRelease")(w)
	}, says: "clock"},
	"foreign": {cause: func(w *world) (*http.Response, string) {
		const inside = "dists/noble/main/binary-amd64/InRelease" // it could hide what the suite lists there
		w.archive.Put(inside, w.file(inRelease), time.Now())
		return asks("GET", "/ubuntu/"+inside)(w)
	}, says: "of another suite"},
	"expired": {
		change: func(c *config.Config) {
			c.Stale.ServeExpired, c.Archives[0].CheckEvery = 0, time.Second
		},
		cause: func(w *world) (*http.Response, string) {
			w.mustGet(inRelease)
			w.up.Refuse()
			var resp *http.Response
			w.eventually("the expired Release is withheld", func() bool {
				resp, _ = w.raw("GET", "/ubuntu/dists/noble/InRelease")
				return resp.StatusCode != 200
			})
			return resp, "/ubuntu/dists/noble/InRelease"
		}, says: "stale.serve_expired",
	},
	"corrupt": {cause: func(w *world) (*http.Response, string) {
		w.update()
		return failing(smallDeb, testarchive.WrongBytes(5))(w)
	}, says: "not what the signed metadata lists"},
	"broken-stream": {cause: func(w *world) (*http.Response, string) {
		w.update()
		resp, url := failing(largeDeb, testarchive.WrongBytes(-1), testarchive.Drip(1<<20))(w)
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			w.t.Error("the body has an end")
		}
		return nil, url
	}, says: "broke off"},
	"precondition": {cause: func(w *world) (*http.Response, string) {
		w.update()
		w.mustGet(smallDeb)
		resp, _ := w.raw("GET", "/ubuntu/"+smallDeb, `If-Match: "other"`)
		return resp, "/ubuntu/" + smallDeb
	}, says: "another version"},
	"range": {cause: func(w *world) (*http.Response, string) {
		w.update()
		w.mustGet(smallDeb)
		resp, _ := w.raw("GET", "/ubuntu/"+smallDeb, "Range: bytes=999999-")
		return resp, "/ubuntu/" + smallDeb
	}, says: "range"},
	"loop": {cause: func(w *world) (*http.Response, string) {
		resp, _ := w.raw("GET", "/ubuntu/dists/noble/InRelease", "Via: 1.1 "+w.node.Pseudonym())
		return resp, "/ubuntu/dists/noble/InRelease"
	}, says: "came back"},
}

// notProduced are reasons that no node in good order gives on demand. The tests of package front have them.
var notProduced = map[string]string{
	"internal":     "nobody foresees it",
	"disk":         "a running node goes on without its disk wherever it can",
	"index-unread": "it takes 20 seconds; the tests of the catalog have it",
	"client-gone":  "no host sees it",
}

func asks(method, target string) func(*world) (*http.Response, string) {
	return func(w *world) (*http.Response, string) {
		resp, _ := w.raw(method, target)
		return resp, target
	}
}

// failing asks for a file that upstream gives wrong.
func failing(path string, effects ...testarchive.Effect) func(*world) (*http.Response, string) {
	return func(w *world) (*http.Response, string) {
		w.up.Inject(path, 0, effects...)
		return asks("GET", "/ubuntu/"+path)(w)
	}
}

// For every reason: a real node gives the error, says it in the status line, and `aptmesh why` names the
// same cause for the URL as the host wrote it, what that means, and what to do.
func TestWhyExplainsEveryError(t *testing.T) {
	for _, reason := range front.Reasons() {
		t.Run(reason.Word, func(t *testing.T) {
			c, ok := whyCases[reason.Word]
			if !ok && notProduced[reason.Word] != "" {
				t.Skip("not produced here: " + notProduced[reason.Word])
			}
			if !ok {
				t.Fatal("no case produces it")
			}
			t.Parallel()
			change := c.change
			if change == nil {
				change = func(*config.Config) {}
			}
			w := newWorld(t, newArchive(func(s *testarchive.Suite) {
				if reason.Word == "expired" {
					s.ValidFor = time.Since(epoch) + 3*time.Second
				}
			}), change)
			resp, url := c.cause(w)
			if resp != nil {
				note := resp.Header.Get("X-Aptmesh")
				if resp.StatusCode != reason.Status || !strings.Contains(note, "reason="+reason.Word) {
					body, _ := io.ReadAll(resp.Body)
					t.Fatalf("%s, %s: %s", resp.Status, note, body)
				}
				phrase, _ := strings.CutPrefix(resp.Status, fmt.Sprint(resp.StatusCode, " "))
				if phrase == "" || phrase == http.StatusText(resp.StatusCode) && reason.Word != "not-found" {
					t.Errorf("the status line says %q only", resp.Status)
				}
			}
			var said string
			w.eventually("why names the reason", func() bool { // the exchange ends after its answer
				why := w.node.Why(url)
				said = strings.Join(why.Sentences, "\n")
				return why.Would != nil && why.Would.Reason == reason.Word || why.Latest != nil && why.Latest.Reason == reason.Word
			})
			if !strings.Contains(said, "("+reason.Word+")") || !strings.Contains(said, c.says) {
				t.Errorf("why %s says\n%s", url, said)
			}
			if reason.Word != "connect-refused" && (!strings.Contains(said, reason.Means) || !strings.Contains(said, reason.Next)) {
				t.Errorf("why %s does not say what to do:\n%s", url, said)
			}
			if strings.Contains(said, "%!") || strings.Contains(said, "..\n") {
				t.Errorf("why %s says\n%s", url, said)
			}
			t.Logf("why %s\n%s", url, said)
		})
	}
}

// Without any request, why knows what the state of the node tells: a Release that was refused, an upstream
// that cannot be asked.
func TestWhyForesees(t *testing.T) {
	w := newWorld(t, newArchive(), func(c *config.Config) {
		c.Archives[0].SignedBy = []string{string(testarchive.NewKey("stranger", testarchive.KeyOptions{}).Armored())}
		c.Archives[0].Suites = []string{"noble"}
	})
	var why, index = w.node.Why("/ubuntu/" + inRelease), w.node.Why("/ubuntu/" + packages)
	w.eventually("the watched suite is found untrusted", func() bool {
		why, index = w.node.Why("http://cache:3142/ubuntu/"+inRelease), w.node.Why("/ubuntu/"+packages)
		return why.Would != nil
	})
	if why.Would.Reason != "untrusted" || why.Would.Status != 403 || why.Latest != nil {
		t.Errorf("%+v, %+v", why.Would, why.Latest)
	}
	if index.Would == nil || index.Would.Reason != "untrusted" {
		t.Errorf("an index of it: %+v", index.Would)
	}
	if said := strings.Join(why.Sentences, "\n"); strings.Contains(said, "unverified") || strings.Contains(said, "passed on") {
		t.Errorf("it frightens:\n%s", said)
	}

	w = newWorld(t, newArchive())
	w.update()
	w.up.Refuse()
	w.get(smallDeb)
	w.eventually("the breaker is open", func() bool { return w.node.Why("/ubuntu/"+largeDeb).Would != nil })
	if would := w.node.Why("/ubuntu/" + largeDeb).Would; would.Reason != "unavailable" || !strings.Contains(would.Text, "accepts no connection") {
		t.Errorf("%+v", would)
	}
	if why := w.node.Why("/ubuntu/" + w.byHash(packages)); why.Would != nil || why.Stored == "" {
		t.Errorf("what is held is given out: %+v, held %q", why.Would, why.Stored)
	}
	if err := w.up.Accept(); err != nil {
		t.Fatal(err)
	}
}

// Of a file that nothing lists so far, `why` says what a request would read to find out.
func TestWhyNamesWhatIsUnread(t *testing.T) {
	w := newWorld(t, newArchive())
	said := func() string { return strings.Join(w.node.Why("/ubuntu/"+smallDeb).Sentences, "\n") }
	unread := func() string { return strings.Join(w.node.Why("/ubuntu/"+smallDeb).Unread, " ") }
	if got := said(); !strings.Contains(got, "holds no Release of the archive yet") || unread() != "ubuntu" {
		t.Errorf("at first:\n%s\nunread: %s", got, unread())
	}
	w.mustGet(inRelease)
	if got := said(); !strings.Contains(got, "would read the indexes of noble first") || unread() != "noble" {
		t.Errorf("with the Release:\n%s", got)
	}
	w.mustGet(smallDeb)
	if got := said(); !strings.Contains(got, "A signed index lists it") || unread() != "" {
		t.Errorf("with the package:\n%s", got)
	}
	w.get("pool/main/n/none_1_amd64.deb")
	if got := strings.Join(w.node.Why("/ubuntu/pool/main/n/none_1_amd64.deb").Sentences, "\n"); !strings.Contains(got, "No signed metadata that this node holds lists it") {
		t.Errorf("of what nothing lists:\n%s", got)
	}
}

// A Release whose indexes are not there is there: what is wrong is named.
func TestRefreshOfAHalfPublishedSuite(t *testing.T) {
	w := newWorld(t, newArchive())
	w.update()
	w.archive.AddPackage("noble", testarchive.Package{Name: "newer", Version: "1", Size: 2000})
	w.archive.Publish(epoch.Add(time.Minute))
	w.up.Inject("dists/noble/main/*", 0, testarchive.Status(404, 0))
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err == nil || strings.Contains(err.Error(), "no Release") || !strings.Contains(err.Error(), "Packages") {
		t.Errorf("refresh: %v", err)
	}
	if said := strings.Join(w.node.Why("/ubuntu/"+inRelease).Sentences, "\n"); !strings.Contains(said, "latest check of its suite") || !strings.Contains(said, "Packages") || !strings.Contains(said, "answered from") {
		t.Errorf("why says\n%s", said)
	}
	if _, err := w.node.Refresh(t.Context(), "ubuntu/none", false); err == nil || !strings.Contains(err.Error(), "no Release") {
		t.Errorf("refresh of a suite that does not exist: %v", err)
	}
}

// What happens to a node's disk while it runs is nothing that hosts notice while upstream answers, and never a 500.
func TestLostDiskIsNoFailureOfTheNode(t *testing.T) {
	// In one step: the node still writes below it, and what it writes while a directory is emptied stays.
	away := func(dir string) error { return os.Rename(dir, dir+".away") }
	for name, ruin := range map[string]func(dir string) error{
		"the directory is gone": away,
		"a file stands in its place": func(dir string) error {
			return errors.Join(away(dir), os.WriteFile(dir, nil, 0o600))
		},
		"what is stored is empty": func(dir string) error {
			return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return os.Truncate(path, 0)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newArchive(), func(c *config.Config) { c.Cache.Memory = 0 })
			w.update()
			w.mustGet(largeDeb)
			if err := ruin(w.cfg.Data); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{inRelease, w.byHash(packages), largeDeb, smallDeb, "pool/main/n/none.deb"} {
				for range 2 {
					r := w.get(path)
					note := r.header.Get("X-Aptmesh")
					if r.status == 500 || r.status == 503 && !strings.Contains(note, "reason=disk") && !strings.Contains(note, "reason=unavailable") {
						t.Errorf("%s: %d, %s: %s", path, r.status, note, r.body)
					}
					if want, ok := w.archive.Lookup(path); ok && (r.status != 200 || r.err != nil || string(r.body) != string(want.Data)) {
						t.Errorf("%s: %d, %d bytes, %v, %s", path, r.status, len(r.body), r.err, note)
					}
				}
			}
			_ = w.node.Stop(context.Background()) // it cannot write down what it knows
			w.node = nil
		})
	}
}

// An archive of a class that nobody has asked for is explained without being made.
func TestWhyOfAClass(t *testing.T) {
	class := func(c *config.Config) { c.Archives[0].Upstream += "/*/ubuntu" }
	w := newWorld(t, newArchive(), class)
	const url = "http://cache:3142/ubuntu/deadsnakes/dists/noble/InRelease"
	why := w.node.Why(url)
	if said := strings.Join(why.Sentences, "\n"); why.Location != "ubuntu/deadsnakes/dists/noble/InRelease" || why.Would != nil || !strings.Contains(said, "one of a class") {
		t.Errorf("%s: %+v\n%s", why.Location, why.Would, said)
	}
	if why := w.node.Why("/ubuntu/dists/InRelease"); strings.Contains(strings.Join(why.Sentences, ""), "500") {
		t.Errorf("%+v", why)
	}
	resp, _ := w.raw("GET", "/ubuntu/deadsnakes/dists/noble/InRelease") // upstream has no such directory
	w.eventually("the failure is found under the URL", func() bool { return w.node.Why(url).Latest != nil })
	if latest := w.node.Why(url).Latest; latest.Status != resp.StatusCode || latest.Reason != "not-found" {
		t.Errorf("%s, %+v", resp.Status, latest)
	}
	w = newWorld(t, newArchive(), class, func(c *config.Config) { c.Offline = true })
	if why := w.node.Why(url); why.Would == nil || why.Would.Reason != "unavailable" {
		t.Errorf("offline: %+v", why.Would)
	}
}

// A node whose configuration leaves the port open knows its own addresses: a URL of it is explained, and listed among
// what was refused, as a path of the node.
func TestOwnPortLeftOpen(t *testing.T) {
	w := newWorld(t, newArchive(), func(c *config.Config) { c.PublicURL = "" })
	own := "http://" + w.node.Addrs()[0]
	if why := w.node.Why(own + "/ubuntu/" + inRelease); why.Archive != "ubuntu" || why.Would != nil {
		t.Errorf("its own URL: %+v", why)
	}
	if resp, _ := w.raw("GET", own+"/debian/dists/bookworm/InRelease"); resp.StatusCode != 404 {
		t.Fatal(resp.Status)
	}
	list := w.node.Refused()
	if len(list) != 1 || list[0].URL != "/debian" || list[0].Reason != "unknown-prefix" {
		t.Errorf("refused: %+v", list)
	}
	if why := w.node.Why(own + "/debian/dists/bookworm/InRelease"); why.Latest == nil || why.Latest.Reason != "unknown-prefix" {
		t.Errorf("what a host got is not found again: %+v", why)
	}
	_, port, _ := net.SplitHostPort(w.node.Addrs()[0])
	if other := w.node.Why("http://127.0.0.1:1" + port + "/ubuntu/x"); other.Archive != "" {
		t.Errorf("another port of this machine: %+v", other)
	}
}

// One request that failed a moment ago says how the next one ends, for the root and for packages, until upstream answers.
func TestWhyForeseesWithTheFirstFailure(t *testing.T) {
	w := newWorld(t, newArchive())
	w.up.Refuse()
	w.get(inRelease)
	for _, path := range []string{inRelease, smallDeb} {
		if would := w.node.Why("/ubuntu/" + path).Would; would == nil || would.Status != 503 || would.Reason != "unavailable" || !strings.Contains(would.Text, "accepts no connection") {
			t.Errorf("%s: %+v", path, would)
		}
	}
	if err := w.up.Accept(); err != nil {
		t.Fatal(err)
	}
	w.eventually("upstream is asked again", func() bool { return w.get(inRelease).status == 200 })
	for _, path := range []string{inRelease, smallDeb} {
		if would := w.node.Why("/ubuntu/" + path).Would; would != nil {
			t.Errorf("%s: %+v", path, would)
		}
	}
}

// apt's lines about a file are as good as its URL. Of an index that hosts have, the line means what they have.
func TestWhyTakesLinesOfApt(t *testing.T) {
	w := newWorld(t, newArchive(), func(c *config.Config) { c.Archives[0].Aliases = []string{"http://archive.ubuntu.com/ubuntu"} })
	w.update()
	stored := ""
	w.eventually("the index is stored", func() bool {
		for _, compression := range []string{".gz", ".xz", ""} {
			if why := w.node.Why("/ubuntu/dists/noble/main/binary-amd64/Packages" + compression); why.Stored != "" {
				stored = why.Location
			}
		}
		return stored != ""
	})
	for line, want := range map[string]string{
		"http://archive.ubuntu.com/ubuntu noble InRelease":                                                        "ubuntu/" + inRelease,
		"Err:7 http://archive.ubuntu.com/ubuntu noble InRelease":                                                  "ubuntu/" + inRelease,
		"http://archive.ubuntu.com/ubuntu noble/main amd64 Packages":                                              stored,
		"E: Failed to fetch http://archive.ubuntu.com/ubuntu/" + smallDeb + "  403  Forbidden [IP: 192.0.2.1 80]": "ubuntu/" + smallDeb,
	} {
		why := w.node.Why(line)
		if why.Location != want || want == "" || why.Would != nil || !strings.HasPrefix(why.Sentences[0], "apt's line is about http://archive.ubuntu.com/ubuntu/") {
			t.Errorf("%s: %q, %+v, want %q", line, why.Location, why.Sentences, want)
		}
	}
	why := w.node.Why("http://archive.ubuntu.com/ubuntu noble/main amd64 hello amd64 2.10-3")
	if said := strings.Join(why.Sentences, "\n"); why.Location != "" || !strings.Contains(said, `"E: Failed to fetch"`) || strings.Contains(said, "unknown-host") {
		t.Errorf("%+v", why)
	}
}

// The URL of another node has the answer of that node.
func TestWhySaysWhoseAnswerItIs(t *testing.T) {
	m := newMesh(t, newArchive(), 2)
	s, other := m.sites[0], m.sites[1]
	host, port, _ := net.SplitHostPort(s.addr)
	for at, want := range map[string]string{
		host + ":" + port:                   "",
		"localhost:" + port:                 "",
		"cache.example.org:" + port:         "",
		other.name + ":" + port:             "The URL is one of the node " + other.name + ". What follows is the answer of this node, " + s.name + ": ask " + other.name,
		other.name + ".example.org:" + port: "The URL is one of the node " + other.name + ".",
		"192.0.2.7:" + port:                 "The URL names 192.0.2.7:" + port + ", where this node does not listen. What follows is the answer of this node, " + s.name,
	} {
		why := s.node.Why("http://" + at + "/ubuntu/" + inRelease)
		first := strings.HasPrefix(why.Sentences[0], "The URL ")
		if why.Location != "ubuntu/"+inRelease || first != (want != "") || !strings.HasPrefix(why.Sentences[0], want) {
			t.Errorf("%s: %q, %q", at, why.Location, why.Sentences)
		}
	}
	if why := s.node.Why(m.up.URL + "/" + inRelease); strings.HasPrefix(why.Sentences[0], "The URL ") {
		t.Errorf("of upstream: %q", why.Sentences)
	}
}

// An https URL of an archive that the node has leads to the URL that the host should have.
func TestWhyOfHTTPSNamesTheURLHere(t *testing.T) {
	w := newWorld(t, newArchive(), func(c *config.Config) { c.PublicURL = "http://cache.example.org:3142/" })
	said := strings.Join(w.node.Why(strings.Replace(w.up.URL, "http:", "https:", 1)+"/"+smallDeb).Sentences, "\n")
	if !strings.Contains(said, "write http://cache.example.org:3142/ubuntu in the host's sources") || strings.Contains(said, "under archives:") {
		t.Error(said)
	}
}

// What a host got in the normal course of things does not come before what became of the file.
func TestWhyPutsHarmlessErrorsLast(t *testing.T) {
	w := newWorld(t, newArchive())
	w.update()
	w.mustGet(smallDeb)
	w.raw("GET", "/ubuntu/"+smallDeb, "Range: bytes=999999-")
	var said []string
	w.eventually("the error is known", func() bool {
		said = w.node.Why("/ubuntu/" + smallDeb).Sentences
		return strings.Contains(strings.Join(said, "\n"), "416 (range)")
	})
	if !strings.HasPrefix(said[0], "It is ") {
		t.Errorf("%q", said)
	}
}

// A node that asks no upstream gets from the other nodes what they have or fetch, and `why` says the same.
func TestWhyOffline(t *testing.T) {
	m := newMesh(t, newArchive(), 2)
	s := m.sites[0]
	for _, path := range []string{inRelease, packages} {
		if status, body := ask(t, s.addr, "/ubuntu/"+path); status != 200 {
			t.Fatal(status, body)
		}
	}
	offline := *s.cfg
	offline.Offline = true
	if _, _, err := s.node.Reload(&offline); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{smallDeb, largeDeb} {
		why := s.node.Why("/ubuntu/" + path)
		status, _ := ask(t, s.addr, "/ubuntu/"+path)
		said := strings.Join(append(why.Sentences, why.Plan...), "\n")
		if (why.Would == nil) != (status == 200) || strings.Contains(said, "Nothing is fetched") || !strings.Contains(said, "This node asks no upstream") || strings.Contains(said, "fetches it from upstream if") {
			t.Errorf("%s: a request ends with %d, why says %+v\n%s", path, status, why.Would, said)
		}
	}
	if why := s.node.Why("/ubuntu/" + packages); why.Would != nil || len(why.Plan) > 0 {
		t.Errorf("what is stored: %+v %q", why.Would, why.Plan)
	}
}
