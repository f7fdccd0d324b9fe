package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestInSnapshot(t *testing.T) {
	routes, err := newRoutes(testArchives(t), nil, []string{"cache"}, func() []string { return []string{":3142"} })
	if err != nil {
		t.Fatal(err)
	}
	routes.classes = fakeClasses{}
	for target, want := range map[string]string{
		"/snapshot/ubuntu/w48/dists/noble/InRelease":             "w48 /ubuntu/dists/noble/InRelease",
		"//snapshot/ubuntu/w48/pool/a%2bb.deb":                   "w48 /ubuntu/pool/a%2bb.deb",
		"http://cache:3142/snapshot/ubuntu/w48/x":                "w48 /ubuntu/x",
		"/snapshot/vendor/tools/w48/x":                           "w48 /vendor/tools/x",
		"/snapshot/vendor/w48/x":                                 "w48 /vendor/x",
		"/snapshot/ppa/ann/stable/dists/x":                       "stable /ppa/ann/dists/x",
		"/snapshot/ubuntu/w48%7e12ab/x":                          "w48~12ab /ubuntu/x",
		"/snapshot/ubuntu/w48/":                                  "w48 /ubuntu/",
		"/snapshot/ubuntu/w48":                                   "w48 /ubuntu/",
		"/snapshot/ubuntu/":                                      "404 the URL of a snapshot ends with its name",
		"/snapshot/other/w48/x":                                  `404 no archive "other" has snapshots here`,
		"/snapshot/archive.ubuntu.com/ubuntu/w48":                `404 no archive "archive.ubuntu.com" has snapshots here`,
		"/snapshots/ubuntu/w48/x":                                "",
		"/ubuntu/snapshot/ubuntu/w48/x":                          "",
		"http://archive.ubuntu.com/snapshot/ubuntu/w48/x":        "",
		"http://snapshot.example.org/snapshot/ubuntu/20260101/x": "",
	} {
		got, rest, err := routes.inSnapshot(target, nil)
		var r *refusal
		switch {
		case errors.As(err, &r):
			got = fmt.Sprint(r.status, " ", r.phrase)
		case got != "":
			got += " " + rest
		}
		if got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	if _, err := newRoutes([]Archive{{Name: "snapshot", Upstream: mustURL(t, "http://example.org/")}}, nil, nil, nil); err == nil {
		t.Error("an archive may be called snapshot")
	}
}

// fakeSnapshots has w48 of ubuntu, with one file, and the channel stable that stands for it.
type fakeSnapshots struct{ digest proto.Digest }

func (fakeSnapshots) Known(id, archive string) bool {
	return (id == "w48" || id == "stable") && archive == "ubuntu"
}

// Whole: nothing is held of any moment.
func (fakeSnapshots) Whole(id, _ string) bool { return !isMoment(id) || id == "20200101T000000Z" }

func (s fakeSnapshots) Resolve(id string, loc proto.Location) (e proto.Resolution, ok bool) {
	e.Object.Ref, e.Listed = proto.Ref{Digest: s.digest, Size: 3}, true
	if id == "stable" {
		e.Snapshot, e.Mutable = "w48", true
	}
	return e, strings.HasPrefix(loc.Path, "dists/noble/")
}

func (fakeSnapshots) Discover(_ context.Context, _ string, loc proto.Location, _ bool) (proto.Resolution, error) {
	return proto.Resolution{}, proto.ErrNotFound
}

// An archive as it was is answered from the snapshot alone, with the archive's rules, and says so.
func TestServesSnapshots(t *testing.T) {
	old := proto.DigestOf([]byte("old"))
	f := startFront(t, func(c *Config) {
		c.Snapshots = fakeSnapshots{old}
		for i := range c.Archives {
			if c.Archives[i].Name == "debian" {
				c.Archives[i].Deny = prefixes("0.0.0.0/0", "::/0")
			}
		}
	})
	f.fetcher.open = func(_ context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		if want.Ref.Digest != old {
			return nil, proto.ErrNotFound
		}
		return &proto.Blob{Ref: want.Ref, Bytes: []byte("old"), Tier: proto.TierMemory}, nil
	}
	for path, want := range map[string]int{
		"/snapshot/ubuntu/w48/dists/noble/InRelease":    http.StatusOK,
		"/snapshot/ubuntu/stable/dists/noble/InRelease": http.StatusOK,
		"/snapshot/ubuntu/w48/dists/jammy/InRelease":    http.StatusNotFound,
		"/snapshot/ubuntu/w49/dists/noble/InRelease":    http.StatusNotFound,
		"/snapshot/debian/w48/dists/noble/InRelease":    http.StatusForbidden,
		"/ubuntu/dists/noble/InRelease":                 http.StatusNotFound,
	} {
		resp, body := f.ask(http.MethodGet, path)
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
		switch said := resp.Header.Get("X-Aptmesh"); {
		case want == http.StatusOK:
			channel := strings.Contains(path, "stable")
			if strings.Contains(said, "; channel=stable; snapshot=w48;") != channel || strings.Contains(resp.Header.Get("Cache-Control"), "max-age=86400") == channel {
				t.Errorf("%s: %s, %s", path, said, resp.Header.Get("Cache-Control"))
			}
			if body != "old" || !strings.Contains(said, "; snapshot=w48;") {
				t.Errorf("%s: %q, %s", path, body, said)
			}
		case strings.Contains(path, "w49"):
			if !strings.Contains(said, "reason=unknown-snapshot") || !strings.Contains(resp.Status, `no snapshot or channel "w49" of ubuntu here`) {
				t.Errorf("%s: %s, %s", path, resp.Status, said)
			}
		}
	}
	refused := make(map[string]string)
	for _, r := range f.Refused() {
		refused[r.URL] = r.Reason
	}
	if len(refused) != 2 || refused["/snapshot/ubuntu/w49"] != reasonSnapshot || refused["/snapshot/debian/w48"] != reasonClientNet {
		t.Errorf("refused are %v", refused)
	}
	if _, body := f.ask(http.MethodGet, "/snapshot/ubuntu/w48/dists/jammy/InRelease"); !strings.Contains(body, "channel w48 has no such suite") {
		t.Error(body)
	}
	if e := f.Explain("/snapshot/ubuntu/w49/dists/noble/InRelease"); e.Snapshot != "w49" || e.Would == nil || e.Latest == nil {
		t.Errorf("%+v", e)
	}
	if e := f.Explain("/snapshot/ubuntu/w48/dists/noble/InRelease"); e.Snapshot != "w48" || e.Would != nil || e.Latest != nil || e.Location.Path != "dists/noble/InRelease" {
		t.Errorf("%+v", e)
	}
}

// A moment of which this node does not hold all is the archive as it was then at its service of history, if that has
// it for sure.
func TestMomentsFromHistory(t *testing.T) {
	then := "20200301T120000Z"
	f := startFront(t, func(c *Config) {
		c.Snapshots = fakeSnapshots{}
		for i := range c.Archives {
			if c.Archives[i].Name == "ubuntu" {
				c.Archives[i].History = func(at time.Time) string { return "http://history.example.org/u/" + at.Format("2006/01/02") }
			}
		}
		c.Archives = append(c.Archives, Archive{Name: "history/ubuntu/2020/03/01", Upstream: mustURL(t, "http://history.example.org/u/2020/03/01"), Format: c.Archives[0].Format})
	})
	var asked proto.Location
	f.catalog.discover = func(_ context.Context, loc proto.Location, _ bool) (e proto.Resolution, err error) {
		asked = loc
		e.Object.Ref, e.Listed = proto.Ref{Digest: proto.DigestOf([]byte("old")), Size: 3}, true
		return e, nil
	}
	f.fetcher.open = func(_ context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: want.Ref, Bytes: []byte("old"), Tier: proto.TierMemory}, nil
	}
	for id, want := range map[string]string{
		then:               "old",
		"20200101T000000Z": "nothing of ubuntu is held of that moment", // the node says that it holds all of it, and does not
		time.Now().Add(-time.Hour).UTC().Format(momentForm): "is not asked for the last 24 hours",
		"29990101T000000Z": "29990101T000000Z lies ahead",
		"20200301T120000":  "no snapshot and no channel",
	} {
		asked = proto.Location{}
		resp, body := f.ask(http.MethodGet, "/snapshot/ubuntu/"+id+"/dists/noble/InRelease")
		said := resp.Header.Get("X-Aptmesh")
		if ok := want == "old"; (resp.StatusCode == http.StatusOK) != ok || !strings.Contains(body+resp.Status, want) || (asked.Archive == "history/ubuntu/2020/03/01") != ok || ok && !strings.Contains(said, "; snapshot="+id) {
			t.Errorf("%s: %s, %s, %q, asked %v", id, resp.Status, said, body, asked)
		}
	}
	if e := f.Explain("/snapshot/ubuntu/" + then + "/dists/noble/InRelease"); e.Moment != then || e.Snapshot != "" || e.Location.Archive != "history/ubuntu/2020/03/01" || e.Would != nil {
		t.Errorf("%+v", e)
	}
	if _, body := f.ask(http.MethodGet, "/snapshot/debian/"+then+"/dists/noble/InRelease"); !strings.Contains(body, "`history` of the archive names a service") {
		t.Error(body)
	}
}
