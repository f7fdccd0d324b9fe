package e2e

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
)

// A node that is stopped while a host updates breaks the host's requests, which apt then
// repeats. apt before 3.0.3 may wait for ever then (LP #2003851), unless the host has the
// line that aptmesh prints for hosts. APTMESH_DRAIN_ROUNDS=20 also counts the hosts that
// hang without it, which is apt's fault and fails no test.
func TestStopDuringUpdateHangsNoHost(t *testing.T) {
	t.Parallel()
	rounds := 4
	more, err := strconv.Atoi(os.Getenv("APTMESH_DRAIN_ROUNDS"))
	if err == nil {
		rounds = more
	}
	hung := stopDuringUpdates(t, rounds, deb.RetrySetting)
	if hung > 0 {
		t.Errorf("%d of %d hosts with the setting hang", hung, rounds)
	}
	if err == nil {
		t.Logf("with %s %d of %d hosts hang", deb.RetrySetting, hung, rounds)
		t.Logf("without it %d of %d hosts hang", stopDuringUpdates(t, rounds), rounds)
	}
}

// stopDuringUpdates has so many hosts update, each from a node that is stopped meanwhile,
// and returns how many had not ended long after apt's own waiting.
func stopDuringUpdates(t *testing.T, rounds int, settings ...string) (hung int) {
	for i := range rounds {
		w := newWorld(t, testarchive.Suite{Name: "one", ByHash: true}, options{}, testarchive.Package{Name: "hello", Version: "1"})
		for _, name := range []string{"two", "three", "four"} {
			w.archive.AddSuite(testarchive.Suite{Name: name, ByHash: true})
			w.archive.AddPackage(name, testarchive.Package{Name: "hello-" + name, Version: "1"})
		}
		w.archive.Publish(w.began)
		w.server.Inject("*", 0, testarchive.Latency(100*time.Millisecond))
		url := w.node.URL + "/debian "
		host := newApt(t, w.archive.Keyring(), strings.Join([]string{
			"deb [signed-by=KEYRING] " + url + "one main", "deb [signed-by=KEYRING] " + url + "two main",
			"deb [signed-by=KEYRING] " + url + "three main", "deb [signed-by=KEYRING] " + url + "four main",
		}, "\n"), settings...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := host.host.Command(ctx, "apt-get", "update")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "the host asked for something", func() bool { return len(w.node.accessLog()) > i%6 })
		w.node.signal(syscall.SIGTERM)
		w.node.exitCode(20 * time.Second)
		_ = cmd.Wait() // how it ends is apt's own affair
		if ctx.Err() != nil {
			hung++
		}
		cancel()
	}
	return hung
}
