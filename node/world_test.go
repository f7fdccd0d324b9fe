package node_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// world is one archive, its upstream, and one node in front of it, all in this
// process.
type world struct {
	t       testing.TB
	archive *testarchive.Archive
	up      *testarchive.Server
	cfg     *config.Config
	node    *node.Node
	client  *http.Client
}

// epoch is the date of the first generation of every test archive.
var epoch = time.Now().Add(-time.Hour).Truncate(time.Second).UTC()

const big = 700 << 10

// newArchive has one suite with a small package, a large one, and both again as
// sources.
func newArchive(change ...func(*testarchive.Suite)) *testarchive.Archive {
	a := testarchive.New(1)
	s := testarchive.Suite{
		Name: "noble", Components: []string{"main"}, Architectures: []string{"amd64"},
		ByHash: true, Compressions: []string{"", ".gz", ".xz"}, Translations: true,
	}
	for _, c := range change {
		c(&s)
	}
	a.AddSuite(s)
	a.AddPackage("noble", testarchive.Package{Name: "small", Version: "1", Size: 2000})
	a.AddPackage("noble", testarchive.Package{Name: "large", Version: "1", Size: big})
	a.Publish(epoch)
	return a
}

func newWorld(t testing.TB, a *testarchive.Archive, change ...func(*config.Config)) *world {
	t.Helper()
	w := &world{t: t, archive: a, up: testarchive.NewServer(a), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	t.Cleanup(w.up.Close)
	cfg := config.Default()
	cfg.Listen, cfg.Admin.Address, cfg.Data = []string{"127.0.0.1:0"}, "", t.TempDir()
	cfg.PublicURL = "http://cache:3142" // in place of a port that is known only when it listens
	cfg.Cache.MaxSize = blobstore.Limit{Bytes: 1 << 30}
	cfg.Cache.Memory, cfg.Cache.Scrub = 8<<20, 0
	cfg.UpstreamClient.AuthConf = nil
	cfg.UpstreamClient.Proxy = upstream.Direct
	cfg.UpstreamClient.StallTimeout, cfg.UpstreamClient.HeaderTimeout = 300*time.Millisecond, 300*time.Millisecond
	cfg.Drain.Timeout = time.Second
	cfg.Prefetch.Enabled = false // what upstream is asked for is the test's own doing
	u := archiveconf.New("ubuntu")
	u.Upstream, u.SignedBy = w.up.URL, []string{string(a.ArmoredKeyring())}
	cfg.Archives = []archiveconf.Archive{u}
	for _, c := range change {
		c(cfg)
	}
	w.cfg = cfg
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) start() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := node.New(w.cfg, node.Options{Logger: log, Name: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.node = n
}

func (w *world) stop() {
	if w.node == nil {
		return
	}
	w.client.CloseIdleConnections()
	if err := w.node.Stop(context.Background()); err != nil {
		w.t.Error(err)
	}
	w.node = nil
}

func (w *world) url(path string) string {
	return "http://" + w.node.Addrs()[0] + "/ubuntu/" + path
}

// result is what a client got.
type result struct {
	status int
	header http.Header
	body   []byte
	err    error // of the transfer
}

// get asks as apt does. It gives up after 20 s, when apt would.
func (w *world) get(path string, header ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", w.url(path), nil)
	if err != nil {
		return result{err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return result{resp.StatusCode, resp.Header, body, err}
}

// mustGet is get of something that must be had, with the bytes upstream has now.
func (w *world) mustGet(path string) result {
	w.t.Helper()
	want, ok := w.archive.Lookup(path)
	if !ok {
		w.t.Fatalf("the test archive has no %s", path)
	}
	r := w.get(path)
	if r.status != 200 || r.err != nil || string(r.body) != string(want.Data) {
		w.t.Fatalf("GET %s: %d, %d bytes, %v; want 200 and %d bytes\n%.300s", path, r.status, len(r.body), r.err, len(want.Data), r.body)
	}
	return r
}

// file returns what upstream has at path now.
func (w *world) file(path string) []byte {
	w.t.Helper()
	f, ok := w.archive.Lookup(path)
	if !ok {
		w.t.Fatalf("the test archive has no %s", path)
	}
	return f.Data
}

// byHash is the by-hash name of an index as it is upstream now.
func (w *world) byHash(index string) string {
	return filepath.Dir(index) + "/by-hash/SHA256/" + testarchive.Sum(testarchive.SHA256, w.file(index))
}

// update asks for what `apt update` asks for.
func (w *world) update() {
	w.t.Helper()
	w.mustGet("dists/noble/InRelease")
	w.mustGet(w.byHash(packages))
}

const (
	packages  = "dists/noble/main/binary-amd64/Packages.xz"
	inRelease = "dists/noble/InRelease"
	smallDeb  = "pool/main/s/small/small_1_amd64.deb"
	largeDeb  = "pool/main/l/large/large_1_amd64.deb"
)

// eventually waits for a condition that a running node brings about by itself.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(45 * time.Second) // beyond the 30 s that a bad object is left alone
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// checkStore re-hashes every blob in the data directory.
func (w *world) checkStore() {
	w.t.Helper()
	blobs := filepath.Join(w.cfg.Data, "blobs")
	err := filepath.WalkDir(blobs, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got := proto.DigestOf(b).String(); got != d.Name() {
			return fmt.Errorf("blob %s has the digest %s", d.Name(), got)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

// aptRetries reports whether apt would try again after this answer
// (apt-protocol: transient statuses with a body, or a broken transfer).
func (r result) aptRetries() bool {
	switch r.status {
	case 0:
		return r.err != nil
	case 200, 206:
		return r.err != nil
	case 408, 429, 500, 502, 503, 504:
		return len(strings.TrimSpace(string(r.body))) > 0
	}
	return false
}
