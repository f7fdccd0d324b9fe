package ring

import (
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestMetaRoundTrip(t *testing.T) {
	want := Node{Name: "n", Datacenter: "Zürich <1>", PeerAddr: "[fd00::1]:3143", Version: "v1+x", State: Leaving, RingVersion: 7, GossipAddr: "10.0.0.1:7946"}
	got, err := nodeOf(&memberlist.Node{Name: "n", Addr: []byte{10, 0, 0, 1}, Port: 7946, Meta: encodeMeta(want)})
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestLongestMeta fills what may be filled.
func TestLongestMeta(t *testing.T) {
	n := Node{Datacenter: strings.Repeat("d", 64), PeerAddr: strings.Repeat("h", 200) + ":3143", Version: strings.Repeat("v", 40)}
	if err := checkMeta(n); err != nil {
		t.Error(err)
	}
	n.Datacenter = strings.Repeat("d", 150)
	if err := checkMeta(n); err == nil || !strings.Contains(err.Error(), "bytes too many") {
		t.Errorf("too long: %v", err)
	}
	if maxMeta >= memberlist.MetaMaxSize {
		t.Error("memberlist would panic")
	}
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"v":1,"s":1,"r":1,"p":"10.0.0.1:3143","d":"fra","sw":"v1"}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(""))
	f.Add([]byte(`{"v":1,"s":1,"r":1,"p":"10.0.0.1:3143"` + strings.Repeat(" ", memberlist.MetaMaxSize) + `}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := nodeOf(&memberlist.Node{Name: "n", Meta: b})
		if err != nil {
			if n.owns() || n.PeerAddr != "" {
				t.Fatalf("not understood, and believed: %+v", n)
			}
			return
		}
		if len(b) > memberlist.MetaMaxSize {
			t.Fatalf("%d bytes were read", len(b))
		}
		if !printable(n.PeerAddr + n.Datacenter + n.Version) {
			t.Fatalf("text that is not: %+v", n)
		}
		again, err := decodeMeta(encodeMeta(n))
		if err == nil && (again.Peer != n.PeerAddr || again.State != n.State || again.Ring != n.RingVersion) {
			t.Fatalf("%+v became %+v", n, again)
		}
	})
}

func FuzzBeacon(f *testing.F) {
	f.Add(beacon{"node1"}.encode()[1:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeBeacon(b)
		if err == nil && (!validName(got.name) || string(got.encode()[1:]) != string(b)) {
			t.Fatalf("%q is %+v", b, got)
		}
	})
}
