package main

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
)

// An operator sees which mirrors are in trouble, why, and what prefetch is worth.
func TestStatusOfMirrors(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	s := &admin.Status{
		Version: "v0.4.0", Node: "fra1", Ready: true, Addresses: []string{"[::]:3142"},
		Prefetch: admin.PrefetchStatus{Enabled: true, Packages: 1234, Objects: map[string]int64{"fetched": 40, "over_limit": 2}, Bytes: 3 << 20, Used: 31},
		Archives: []admin.ArchiveStatus{{
			Name: "ubuntu", Upstream: "http://archive.ubuntu.com/ubuntu",
			Suites: []admin.SuiteStatus{{
				Dir: "dists/noble", State: admin.SuiteFailing, Error: "no mirror answers", FailingSince: now.Add(-5 * time.Minute), Generation: now.Add(-8 * 24 * time.Hour),
				ValidUntil: now.Add(-24 * time.Hour), Expired: true, Withheld: true, ServedUntil: now.Add(-time.Hour),
				Alarm:      "its Release expired 24h ago and nobody has renewed it",
				Behind:     []admin.MirrorBehind{{URL: "http://mirror.example.org/ubuntu", BehindSeconds: 5400}},
				Notice:     "the root is odd: line 7",
				Unreadable: map[string]string{"main/binary-amd64/Packages.lz4": "no frame"},
			}},
			Mirrors: []admin.MirrorStatus{
				{URL: "http://archive.ubuntu.com/ubuntu", Priority: 1, State: admin.MirrorOpen, Alert: "asked_to_wait",
					Reason: "it answered 429 and asked for 30s", FoundBy: "nyc1", Until: now.Add(25 * time.Second), Failovers: map[string]int64{"asked_to_wait": 1}},
				{URL: "http://mirror.example.org/ubuntu", Priority: 1, State: admin.MirrorClosed, BytesPerSecond: 5 << 20, HeaderSeconds: 0.0042, Penalties: 3},
				{URL: "https://snapshot.ubuntu.com/ubuntu/{yyyy}/{mm}", History: true, State: admin.MirrorClosed},
			},
		}, {
			Name: "docker", Upstream: "https://download.docker.com/linux/ubuntu",
			Mirrors: []admin.MirrorStatus{{URL: "https://download.docker.com/linux/ubuntu", State: admin.MirrorOpen, Reason: "no connection within 5s", Until: now.Add(time.Second)}},
		}},
	}
	var b strings.Builder
	if err := printStatus(&b, s, now); err != nil {
		t.Fatal(err)
	}
	want := `aptmesh v0.4.0 on fra1, up 0s, ready
failing: ubuntu/dists/noble is withheld from hosts (stale.serve_expired): its Release expired 24h ago and nobody has renewed it
failing: docker: none of its mirrors can be asked now; only stored files are served
attention: ubuntu/dists/noble: the root is odd: line 7
attention: ubuntu/dists/noble: main/binary-amd64/Packages.lz4 is served, and what it lists is not verified: no frame

listens   [::]:3142
store     0 B of 0 B in , 0 objects; 0 B pinned
traffic   0 requests, 0 errors, 0 B
prefetch  1,234 packages in use; 40 new versions (3.0 MiB) fetched ahead, 31 of them asked for since; 2 left out by prefetch.max_bytes

SUITE               STATE    GENERATION (UTC)  CHECKED           CHANGED  RETAINED  NOTE
ubuntu/dists/noble  failing  2026-11-12 12:00  failing for 5m0s  never    0         no mirror answers; expired 2026-11-19 12:00, withheld since 2026-11-20 11:00 (stale.serve_expired)
docker/             unused   -                 -                 -        -         https://download.docker.com/linux/ubuntu

ARCHIVE  MIRROR                                          PRIO  STATE               SPEED      ANSWERS IN  NOTE
ubuntu   http://archive.ubuntu.com/ubuntu                1     left alone for 25s  -          -           it answered 429 and asked for 30s (found by nyc1); left: 1 asked to wait
ubuntu   http://mirror.example.org/ubuntu                1     ok                  5.0 MiB/s  4 ms        dists/noble is 1h30m behind; penalties for 3 objects
ubuntu   https://snapshot.ubuntu.com/ubuntu/{yyyy}/{mm}  0     ok                  -          -           snapshot service
docker   https://download.docker.com/linux/ubuntu        0     left alone for 1s   -          -           no connection within 5s
`
	if got := b.String(); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}

func TestStatusOffline(t *testing.T) {
	for _, c := range []struct {
		status admin.Status
		want   string
	}{
		{admin.Status{Offline: true}, "offline  no upstream is asked (offline: true)\n"},
		{admin.Status{Archives: []admin.ArchiveStatus{{Name: "esm", Offline: true}}}, "offline  no upstream is asked for esm (archives.NAME.offline)\n"},
	} {
		var b strings.Builder
		if err := printStatus(&b, &c.status, time.Now()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), c.want) {
			t.Errorf("no %q in\n%s", c.want, b.String())
		}
	}
}

// One of a thing is written in the singular, and a check that failed is not one that never was.
func TestStatusWords(t *testing.T) {
	for got, want := range map[string]string{
		prefetchLine(admin.PrefetchStatus{Packages: 1, Objects: map[string]int64{"fetched": 1}, Used: 1}): "1 package in use; 1 new version (0 B) fetched ahead, 1 of them asked for since",
		storeLine(admin.StoreStatus{Blobs: 1}):                      "0 B of 0 B in , 1 object; 0 B pinned",
		trafficLine(admin.TrafficStatus{Requests: 1, Errors: 1}):    "1 request, 1 error, 0 B",
		trafficLine(admin.TrafficStatus{Requests: 2000, Errors: 3}): "2,000 requests, 3 errors, 0 B",
		// The bytes of pages and errors are of no tier.
		trafficLine(admin.TrafficStatus{Requests: 2, Bytes: 2000, Tiers: map[string]admin.TierTraffic{"disk": {Bytes: 500}, "memory": {Bytes: 500}, "peer": {}, "upstream": {Bytes: 500}}}): "2 requests, 0 errors, 2.0 KiB (33% from disk, 34% from memory, 33% from upstream)",
		mirrorNote(admin.ArchiveStatus{}, admin.MirrorStatus{Penalties: 1}): "penalties for 1 object",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	now := time.Now()
	rows := suiteRows([]admin.ArchiveStatus{{Name: "a", Suites: []admin.SuiteStatus{{Dir: "x", State: admin.SuiteFailing, FailingSince: now.Add(-312 * time.Second)}, {Dir: "y", State: admin.SuiteStale}}}}, now)
	if rows[0][3] != "failing for 5m12s" || rows[1][3] != "never" || rows[1][6] != "not watched, because no host asks for it" {
		t.Errorf("%q", rows)
	}
}
