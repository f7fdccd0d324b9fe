package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Hundreds of hosts ask at one instant for a large package that nobody has.
func TestHerd(t *testing.T) {
	clients, size := 500, int64(20_000_000)
	if testing.Short() {
		clients, size = 100, 5_000_000
	}
	const (
		roundTrip = 50 * time.Millisecond
		bandwidth = 2_000_000 // bytes per second; times the clients it must not be more than the machine can move
	)
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{},
		testarchive.Package{Name: "big", Version: "1", Size: size}, testarchive.Package{Name: "other", Version: "1"})
	path, want := w.find("/big_")
	w.readIndices()
	w.server.SetLatency(roundTrip)
	w.server.SetBandwidth(0, bandwidth)
	w.server.ResetCounters()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	firsts := make([]time.Duration, clients)
	wholes := make([]time.Duration, clients)
	start := make(chan struct{})
	var herd sync.WaitGroup
	for i := range clients {
		herd.Go(func() {
			<-start
			began := time.Now()
			var err error
			if firsts[i], err = compareBody(client, w.node.URL+"/debian/"+path, want, began); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			wholes[i] = time.Since(began)
		})
	}
	close(start)
	herd.Wait()

	if n := w.server.Requests(path); n != 1 {
		t.Errorf("upstream had %d requests, want 1", n)
	}
	if n := w.server.Bytes(path); n != int64(len(want)) {
		t.Errorf("upstream sent %d bytes, want %d", n, len(want))
	}
	slices.Sort(firsts)
	slices.Sort(wholes)
	inRoundTrips := func(d time.Duration) string {
		return fmt.Sprintf("%s (%.1f round trips)", d.Round(time.Millisecond), float64(d)/float64(roundTrip))
	}
	ideal := roundTrip + time.Duration(float64(len(want))/bandwidth*float64(time.Second))
	t.Logf("%d clients, %d bytes: first byte p50 %s, p99 %s; whole p50 %s, last %s, ideal %s", clients, len(want),
		inRoundTrips(firsts[clients/2]), inRoundTrips(firsts[clients*99/100]),
		wholes[clients/2].Round(time.Millisecond), wholes[clients-1].Round(time.Millisecond), ideal.Round(time.Millisecond))
	if firsts[clients*99/100] > ideal/2 {
		t.Error("clients wait for the file to be here, not for its first byte")
	}
	w.node.checkStored()
}

// readIndices makes the node know what the suite noble lists, as a host does.
func (w *world) readIndices() {
	w.t.Helper()
	other, _ := w.find("/other_")
	for _, path := range []string{"dists/noble/InRelease", other} {
		if resp, body := w.node.get("/debian/" + path); resp.StatusCode != http.StatusOK {
			w.t.Fatalf("%s: %s: %s", path, resp.Status, body)
		}
	}
}

// compareBody downloads a URL and compares it with what it should be, piece by
// piece. It returns when the first byte of the body was there.
func compareBody(client *http.Client, url string, want []byte, began time.Time) (first time.Duration, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answered %s", resp.Status)
	}
	buf, at := make([]byte, 128<<10), 0
	for {
		n, err := resp.Body.Read(buf)
		if at == 0 && n > 0 {
			first = time.Since(began)
		}
		if at+n > len(want) || !bytes.Equal(buf[:n], want[at:at+n]) {
			return first, fmt.Errorf("the %d bytes from %d on are wrong", n, at)
		}
		at += n
		switch {
		case err == io.EOF && at == len(want):
			return first, nil
		case err != nil:
			return first, fmt.Errorf("after %d of %d bytes: %w", at, len(want), err)
		}
	}
}

// Transfers that stall hold no upstream connection that a healthy one needs.
func TestStalledTransfersLeaveRoomForHealthyOnes(t *testing.T) {
	const limit = 8
	var packages []testarchive.Package
	for i := range limit {
		packages = append(packages, testarchive.Package{Name: fmt.Sprintf("stuck%d", i), Version: "1", Size: 100_000})
	}
	packages = append(packages, testarchive.Package{Name: "healthy", Version: "1", Size: 100_000}, testarchive.Package{Name: "other", Version: "1"})
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true},
		options{config: fmt.Sprintf("upstream_client: {connections_per_host: %d, stall_timeout: 10s}", limit)}, packages...)
	w.readIndices()
	stall := w.server.Inject("*/stuck*", 0, testarchive.Stall(50_000))

	var stuck sync.WaitGroup
	defer func() {
		stall.Release()
		stuck.Wait()
	}()
	for i := range limit {
		path, _ := w.find(fmt.Sprintf("/stuck%d_", i))
		stuck.Go(func() {
			resp, err := http.Get(w.node.URL + "/debian/" + path)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body) // it may end either way
				resp.Body.Close()
			}
		})
	}
	for range limit {
		<-stall.Stalled()
	}
	// One place is kept free for metadata. A transfer that gave its place to another one waits in a moment.
	eventually(t, 10*time.Second, "all places but one are in use, and a transfer waits", func() bool {
		got := w.node.status().Upstreams
		return len(got) == 1 && got[0].InUse == limit-1 && got[0].Waiting > 0
	})

	began := time.Now()
	path, want := w.find("/healthy_")
	resp, got := w.node.get("/debian/" + path)
	took := time.Since(began)
	if resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("the healthy one: %s, %d bytes", resp.Status, len(got))
	}
	if took > 8*time.Second {
		t.Errorf("the healthy one had to wait for the stalled ones: %s", took)
	}
	// The server notices a moment late that a connection it had stalled is gone.
	if n := w.server.PeakConnections(); n > limit+1 {
		t.Errorf("upstream saw %d connections at once, the limit is %d", n, limit)
	}
	t.Logf("the healthy one took %s while %d were stalled", took.Round(time.Millisecond), limit)
}
