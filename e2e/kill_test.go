package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// A node that is killed while it downloads and adopts comes back with a generation
// that is whole, and with nothing wrong.
func TestKill9(t *testing.T) {
	t.Parallel()
	const packages = 40
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("APTMESH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("APTMESH_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{archiveConfig: "check_every: 1s"}, manyPackages(packages, 0)...)
	_, first := w.find("dists/noble/InRelease")
	published := map[string][]byte{string(first): nil} // InRelease -> its Packages.xz
	_, published[string(first)] = w.find("noble/main/binary-amd64/Packages.xz")
	w.server.SetLatency(5 * time.Millisecond) // so that a download takes a while

	date := w.began
	var committed []byte // an InRelease that a client has had, with its index
	var ready []time.Duration
	for round := range rounds {
		date = date.Add(time.Minute)
		for _, p := range manyPackages(packages, round+1) {
			w.archive.AddPackage("noble", p)
		}
		ctx, cancel := context.WithCancel(t.Context())
		load := newLoad(w)
		load.run(ctx)
		pause := time.Duration(50+random.IntN(350)) * time.Millisecond
		hold(ctx, pause)
		w.archive.Publish(date)
		_, root := w.find("dists/noble/InRelease")
		_, published[string(root)] = w.find("noble/main/binary-amd64/Packages.xz")
		hold(ctx, time.Duration(random.IntN(1500))*time.Millisecond) // the moment of death
		w.node.Kill()
		cancel()
		load.wait()
		if load.wrong.Load() > 0 {
			t.Errorf("round %d: %d complete bodies were wrong", round, load.wrong.Load())
		}
		if root := load.root(); root != nil {
			committed = root
		}

		// With upstream switched off, what was committed is there.
		rehash(t, w.node.DataDir())
		w.server.Inject("*", 0, testarchive.Reset(-1))
		w.node.start()
		ready = append(ready, w.node.took)
		if committed != nil { // or else it was killed before anybody had an answer
			w.checkGeneration(round, committed, published)
		}
		w.server.ClearFaults()
	}
	w.node.checkStored()
	slices.Sort(ready)
	t.Logf("%d kills; ready %s after the start in the median, %s at most", len(ready), ready[len(ready)/2].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond))
}

// manyPackages are packages whose content differs from round to round.
func manyPackages(n, round int) (all []testarchive.Package) {
	for i := range n {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: fmt.Sprint(round + 1), Size: int64(10_000 + 40_000*(i%10))})
	}
	return all
}

var packagesXZ = regexp.MustCompile(`(?m)^ ([0-9a-f]{64}) +\d+ main/binary-amd64/Packages\.xz$`)

// indexURL is the by-hash path of the index that an InRelease lists.
func indexURL(root []byte) string {
	if m := packagesXZ.FindSubmatch(root); m != nil {
		return "/debian/dists/noble/main/binary-amd64/by-hash/SHA256/" + string(m[1])
	}
	return ""
}

// checkGeneration demands that the node serves a generation that was published,
// one not older than a client has had, and its index.
func (w *world) checkGeneration(round int, committed []byte, published map[string][]byte) {
	w.t.Helper()
	resp, root := w.node.get("/debian/dists/noble/InRelease")
	index, known := published[string(root)]
	if resp.StatusCode != http.StatusOK || !known {
		w.t.Fatalf("round %d: InRelease after the restart: %s, %d bytes that were never published: %.200s", round, resp.Status, len(root), root)
	}
	if dateOf(root) < dateOf(committed) {
		w.t.Errorf("round %d: the generation went back from %s to %s", round, dateOf(committed), dateOf(root))
	}
	for _, r := range [][]byte{root, committed} {
		if resp, got := w.node.get(indexURL(r)); resp.StatusCode != http.StatusOK || !bytes.Equal(got, published[string(r)]) {
			w.t.Errorf("round %d: the index of %s: %s, right: %v", round, dateOf(r), resp.Status, bytes.Equal(got, index))
		}
	}
}

var dateField = regexp.MustCompile(`(?m)^Date: (.*)$`)

// dateOf returns the Date of a Release in a form that sorts.
func dateOf(root []byte) string {
	m := dateField.FindSubmatch(root)
	if m == nil {
		return ""
	}
	at, err := time.Parse(time.RFC1123, string(m[1]))
	if err != nil {
		return string(m[1])
	}
	return at.UTC().Format(time.RFC3339)
}

// load is a number of clients that download whatever the archive has.
type load struct {
	w      *world
	client *http.Client
	files  map[string][sha256.Size]byte
	wrong  atomic.Int64
	wg     sync.WaitGroup

	mu   sync.Mutex
	last []byte // the newest InRelease of which a client has the index too
}

func newLoad(w *world) *load {
	l := &load{w: w, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, files: make(map[string][sha256.Size]byte)}
	for path, data := range w.archive.Files() {
		if strings.HasSuffix(path, ".deb") {
			l.files[path] = sha256.Sum256(data)
		}
	}
	return l
}

func (l *load) run(ctx context.Context) {
	for range 6 {
		l.wg.Go(func() {
			for path, sum := range l.files { // in an order of its own
				if ctx.Err() != nil {
					return
				}
				if body := l.get(ctx, "/debian/"+path); body != nil && sha256.Sum256(body) != sum {
					l.wrong.Add(1)
				}
			}
		})
	}
	l.wg.Go(func() {
		for ctx.Err() == nil {
			root := l.get(ctx, "/debian/dists/noble/InRelease")
			url := indexURL(root)
			if url == "" {
				continue
			}
			index := l.get(ctx, url)
			if index == nil {
				continue
			}
			if sum := sha256.Sum256(index); !strings.HasSuffix(url, hex.EncodeToString(sum[:])) {
				l.wrong.Add(1)
			}
			l.mu.Lock()
			l.last = root
			l.mu.Unlock()
		}
	})
}

// get returns a complete body; nil is anything else.
func (l *load) get(ctx context.Context, path string) []byte {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.w.node.URL+path, nil)
	if err != nil {
		return nil
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil
	}
	return body
}

func (l *load) wait() {
	l.wg.Wait()
	l.client.CloseIdleConnections()
}

func (l *load) root() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
