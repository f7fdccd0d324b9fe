package ring

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// What memberlist says is for debugging; what an operator has to know of it is a warning in our own words.
func TestMemberlistsWords(t *testing.T) {
	var logged bytes.Buffer
	to, _ := newLogs(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelInfo})))
	to.Print("[WARN] memberlist: Failed to send gossip to 10.0.0.2:7946: use of closed network connection")
	to.Print("[ERR] memberlist: Push/Pull with node2 failed: EOF")
	if logged.Len() > 0 {
		t.Errorf("the library's own words: %s", &logged)
	}
	to.Print("[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=10.0.0.9:41234")
	const want = `level=WARN msg="a machine is kept out of the cluster" address=10.0.0.9 reason="it has another gossip key (cluster.gossip_key)"`
	if got := logged.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != 1 || strings.Contains(got, "decrypt") {
		t.Errorf("logged %s, want %s", got, want)
	}
	logged.Reset()
	for range 100 {
		to.Print("[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=10.0.0.9:41234")
	}
	if n := strings.Count(logged.String(), "\n"); n > 20 {
		t.Errorf("%d warnings of one stranger", n)
	}
}
