package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/pki"
	"github.com/aptmesh/aptmesh/proto"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// healthy is a cluster of three nodes that has nothing to complain of.
func healthy() *admin.ClusterStatus {
	member := func(name, datacenter string, rtt, share float64, gb int64) admin.MemberStatus {
		m := admin.MemberStatus{
			Name: name, Datacenter: datacenter, Version: "v0.2.0", State: admin.MemberActive, Health: admin.HealthOK,
			RTTMillis: rtt, RingShare: share, RingAgrees: true, Reported: true, Stored: 4115 * gb, StoredBytes: gb << 30, UpstreamBytes: gb << 29,
		}
		for _, suite := range []string{"ubuntu/dists/noble", "ubuntu/dists/noble-updates"} {
			m.Suites = append(m.Suites, admin.MemberSuite{Suite: suite, Generation: noon.Add(-time.Hour), Root: proto.DigestOf([]byte(suite)), State: admin.SuiteFresh})
		}
		return m
	}
	c := &admin.ClusterStatus{
		Name: "prod", Datacenter: "fra", Self: "fra1", RingHash: "3f2a9c0de1b24455", RingVersion: 1, Secured: true,
		CertificateExpires: noon.Add(400 * 24 * time.Hour),
		Members:            []admin.MemberStatus{member("ams1", "ams", 7.25, 0.334, 3), member("fra1", "fra", 0, 0.331, 12), member("nyc1", "nyc", 91.6, 0.335, 1)},
		UpstreamBytes:      8 << 30, UpstreamBytesSaved: 24 << 30,
	}
	c.Members[0].BytesFrom, c.Members[0].BytesTo = 5<<30, 700<<20
	return c
}

func printed(t *testing.T, c *admin.ClusterStatus) string {
	t.Helper()
	var out bytes.Buffer
	err := printStatus(&out, &admin.Status{Version: "v0.2.0", Node: "fra1", Ready: true, Addresses: []string{"[::]:3142"}, Cluster: c}, noon)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len(line); n > 110 && !strings.HasPrefix(line, "attention: ") && !strings.HasPrefix(line, "failing: ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	return out.String()
}

func TestStatusOfACluster(t *testing.T) {
	want := `aptmesh v0.2.0 on fra1, up 0s, ready

listens    [::]:3142
store      0 B of 0 B in , 0 objects; 0 B pinned
traffic    0 requests, 0 errors, 0 B
cluster    prod: 3 nodes in 3 datacenters, ring 3f2a9c0de1b24455
fetched    8.0 GiB from upstream by all nodes; 24 GiB from each other instead (75% saved)
agreement  2 suites, the same generations on all nodes

NODE    DATACENTER  STATE   HEALTH  RTT     SHARE  OBJECTS  STORED   UPSTREAM  FROM     TO
ams1    ams         active  ok      7.2 ms  33.4%  12,345   3.0 GiB  1.5 GiB   5.0 GiB  700 MiB
fra1 *  fra         active  ok      -       33.1%  49,380   12 GiB   6.0 GiB   -        -
nyc1    nyc         active  ok      92 ms   33.5%  4,115    1.0 GiB  512 MiB   0 B      0 B
`
	if got := printed(t, healthy()); got != want {
		t.Errorf("status:\n%s\nwant:\n%s", got, want)
	}
}

// Everything that is wrong between nodes stands at the top, a line each, with names.
func TestStatusOfAFailingCluster(t *testing.T) {
	c := healthy()
	c.Secured, c.CertificateExpires = false, noon.Add(29*24*time.Hour+time.Hour)
	behind := func(m *admin.MemberStatus, suite int, by time.Duration, root string) {
		m.Suites[suite].Generation = m.Suites[suite].Generation.Add(-by)
		m.Suites[suite].Root = proto.DigestOf([]byte(root))
	}
	ams, fra, nyc := &c.Members[0], &c.Members[1], &c.Members[2]
	ams.GossipSilent = true
	ams.Level, ams.Note = admin.LevelFailing, "docker: none of its mirrors can be asked now; only stored files are served"
	fra.Level, fra.Note = admin.LevelAttention, "said above in full"
	ams.Version = "v0.3.0"
	nyc.RingAgrees = false
	nyc.Health, nyc.Why = admin.HealthQuarantined, "ubuntu/pool/main/h/hello.deb came with a wrong digest; nothing is taken from it until 12:10"
	behind(nyc, 0, 61*time.Minute, "older")
	behind(ams, 1, 0, "fork")
	nyc.Suites[1].Root, nyc.Suites[1].Generation = proto.Digest{}, time.Time{}
	fra.State = admin.MemberLeaving
	c.Members = append(c.Members,
		admin.MemberStatus{Name: "sin1", Datacenter: "fra", Version: "v0.2.0", State: admin.MemberJoining, Health: admin.HealthUnreachable, Why: "connection refused", RingAgrees: true},
		admin.MemberStatus{Name: "syd1", Datacenter: "syd", Version: "v0.2.0", State: admin.MemberActive, Health: admin.HealthOK, RTTMillis: 290, RingAgrees: true},
	)
	want := `aptmesh v0.2.0 on fra1, up 0s, ready
failing: ams1 is failing: docker: none of its mirrors can be asked now; only stored files are served
attention: the certificate of fra1 expires in 29d1h; issue a new one with ` + "`aptmesh cluster renew`" + `
attention: no gossip of ams1 arrives; is UDP between the nodes blocked? News of it comes by calls alone
attention: nyc1 is quarantined: ubuntu/pool/main/h/hello.deb came with a wrong digest; nothing is taken from it until 12:10
attention: nyc1 places objects by another ring: it sees other members, or runs another version
attention: sin1 is unreachable: connection refused
attention: syd1 told nothing of itself just now
attention: ubuntu/dists/noble differs: ams1, fra1 have 2026-11-20 11:00:00 UTC; nyc1 is behind with 2026-11-20 09:59:00 UTC
attention: ubuntu/dists/noble-updates differs: ams1 has 2026-11-20 11:00:00 UTC (8d0c7ac992af); fra1 has 2026-11-20 11:00:00 UTC (4c1b81cb29fa); nyc1 has none

listens    [::]:3142
store      0 B of 0 B in , 0 objects; 0 B pinned
traffic    0 requests, 0 errors, 0 B
cluster    prod: 5 nodes in 4 datacenters, ring 3f2a9c0de1b24455; insecure, without keys and certificates
fetched    8.0 GiB from upstream by all nodes; 24 GiB from each other instead (75% saved)
versions   v0.2.0 on fra1, nyc1, sin1, syd1; v0.3.0 on ams1
agreement  2 suites, 2 with different generations on nodes; nothing is known of sin1, syd1

NODE    DATACENTER  STATE    HEALTH           RTT     SHARE  OBJECTS  STORED   UPSTREAM  FROM     TO
ams1    ams         active   failing, silent  7.2 ms  33.4%  12,345   3.0 GiB  1.5 GiB   5.0 GiB  700 MiB
fra1 *  fra         leaving  attention        -       33.1%  49,380   12 GiB   6.0 GiB   -        -
nyc1    nyc         active   quarantined      92 ms   33.5%  4,115    1.0 GiB  512 MiB   0 B      0 B
sin1    fra         joining  unreachable      -       0.0%   ?        ?        ?         0 B      0 B
syd1    syd         active   ok               290 ms  0.0%   ?        ?        ?         0 B      0 B
`
	var out bytes.Buffer
	if err := printStatus(&out, &admin.Status{Version: "v0.2.0", Node: "fra1", Ready: true, Addresses: []string{"[::]:3142"}, Cluster: c}, noon); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("status:\n%s\nwant:\n%s", out.String(), want)
	}
	c = healthy()
	c.CertificateExpires = noon.Add(-time.Minute)
	if got := printed(t, c); !strings.Contains(got, "\nfailing: the certificate of fra1 has expired, so no other node talks to this one; ") {
		t.Errorf("status:\n%s", got)
	}
}

// Nodes agree only as far as they report.
func TestStatusOfAClusterThatDoesNotReport(t *testing.T) {
	for name, silence := range map[string]func(m *admin.MemberStatus){
		"unreachable": func(m *admin.MemberStatus) {
			m.Reported, m.Health, m.Suites = false, admin.HealthUnreachable, nil
		},
		"missing": func(m *admin.MemberStatus) {
			*m = admin.MemberStatus{Name: m.Name, Datacenter: m.Datacenter, State: admin.MemberMissing, Health: admin.HealthUnreachable, RingAgrees: true, MissingSince: noon}
		},
	} {
		c := healthy()
		silence(&c.Members[2])
		if got, want := printed(t, c), "\nagreement  2 suites, the same generations on the nodes that report; nothing is known of nyc1\n"; !strings.Contains(got, want) {
			t.Errorf("%s: no %q in:\n%s", name, want, got)
		}
	}
}

// A suite that one node alone knows, and a cluster of one, are no trouble.
func TestStatusOfASmallCluster(t *testing.T) {
	c := healthy()
	c.Members = c.Members[1:2]
	c.Members[0].Suites = c.Members[0].Suites[:1]
	c.UpstreamBytesSaved = 0
	c.Vacated = []string{"10.0.0.9:7946"}
	got := printed(t, c)
	for _, want := range []string{
		"cluster    prod: this node alone, ring 3f2a9c0de1b24455\n", "\nfetched    8.0 GiB from upstream by all nodes\n",
		"\nagreement  1 suite, the same generations on all nodes\n", "\nseeds      the node at 10.0.0.9:7946 has left or was removed; ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	c = healthy()
	for i := range c.Members {
		c.Members[i].Suites = c.Members[i].Suites[:i]
	}
	if got := printed(t, c); strings.Contains(got, "attention") {
		t.Errorf("status:\n%s", got)
	}
	c.Members[2].Suites = nil
	c.Members[1].Suites = nil
	if got := printed(t, c); strings.Contains(got, "agreement") {
		t.Errorf("status of a cluster without suites:\n%s", got)
	}
}

func TestStatusWhileStopping(t *testing.T) {
	var out bytes.Buffer
	if err := printStatus(&out, &admin.Status{Version: "v1", Node: "a", Stopping: "hands on 12 objects"}, noon); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "aptmesh v1 on a, up 0s, not ready\nfailing: stopping: it hands on 12 objects\n\n") {
		t.Errorf("status:\n%s", &out)
	}
}

func TestWhyInACluster(t *testing.T) {
	var out bytes.Buffer
	printWhy(&out, &admin.Why{
		Location: "ubuntu/pool/a.deb", Kind: "package", Listed: true, Size: -1,
		Owners: []string{"ams1", "fra1", "nyc1"}, Holders: []string{"nyc1"},
		Plan:         []string{"Ask nyc1, which is believed to store it.", "Ask ams1, which fetches it from upstream.", "Fetch it from upstream."},
		UpstreamURLs: []string{"http://archive.ubuntu.com/ubuntu/pool/a.deb"},
		Sentences:    []string{"It is not stored here."},
	})
	want := `It is not stored here.

location  ubuntu/pool/a.deb
kind      package
listed    yes
stored    no
owners    ams1, then fra1, nyc1
holders   nyc1
plan      1. Ask nyc1, which is believed to store it.
          2. Ask ams1, which fetches it from upstream.
          3. Fetch it from upstream.
upstream  http://archive.ubuntu.com/ubuntu/pool/a.deb
`
	if out.String() != want {
		t.Errorf("why:\n%s\nwant:\n%s", &out, want)
	}
	out.Reset()
	printWhy(&out, &admin.Why{Location: "x/y", Owners: []string{"ams1"}, Stored: "disk"})
	if !strings.Contains(out.String(), "owners    ams1\n") || !strings.Contains(out.String(), "listed    no; signed metadata does not name it\n") {
		t.Errorf("why:\n%s", &out)
	}
	out.Reset()
	printWhy(&out, &admin.Why{Location: "x/y", Unread: []string{"noble", "noble-updates"}})
	if !strings.Contains(out.String(), "not known yet; the indexes of noble, noble-updates have not been read\n") || strings.Contains(out.String(), "does not name it") {
		t.Errorf("why:\n%s", &out)
	}
}

// leavingNode is an admin interface of a node that is told to leave; each status is
// the next of a list, after which it has ended.
func leavingNode(t *testing.T, statuses ...any) string {
	t.Helper()
	var next atomic.Int32
	var server *httptest.Server
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = admin.LeaveResult{Node: "fra1", WithinSeconds: 60, Message: "leaves prod"}
		if r.Method+" "+r.URL.Path != "POST /v1/leave" {
			answer = statuses[next.Add(1)-1]
		}
		if next.Load() == int32(len(statuses)) { // from now on nobody listens
			w.Header().Set("Connection", "close")
			server.Listener.Close()
		}
		if code, ok := answer.(int); ok {
			w.WriteHeader(code)
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestLeaveCommand(t *testing.T) {
	addr := leavingNode(t,
		admin.Status{UptimeSeconds: 100}, admin.Status{UptimeSeconds: 100, Stopping: "hands on 2 objects"}, http.StatusInternalServerError,
		admin.Status{UptimeSeconds: 101, Stopping: "hands on 2 objects"}, admin.Status{UptimeSeconds: 101, Stopping: "lets 3 requests finish"})
	a, out, errs := testApp(t)
	want := "fra1: leaves prod\nfra1: hands on 2 objects\nfra1: lets 3 requests finish\nfra1: has left and ended; the next boot of its machine starts it again, unless the service is disabled\n"
	if code := run(t, a, "leave", "--admin", addr); code != 0 || out.String() != want {
		t.Errorf("exit %d:\n%s%s\nwant:\n%s", code, out, errs, want)
	}

	// A service manager may start it again before anybody sees that it was gone.
	addr = leavingNode(t, admin.Status{UptimeSeconds: 100}, admin.Status{UptimeSeconds: 0}, admin.Status{})
	a, out, errs = testApp(t)
	if code := run(t, a, "leave", "--admin", addr); code != 0 || !strings.HasSuffix(out.String(), "fra1: has left, and was started again\n") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}

	addr = adminStub(t, nil)
	a, out, errs = testApp(t)
	if code := run(t, a, "leave", "--admin", addr); code != 1 || !strings.Contains(errs.String(), "aptmesh: nothing at /v1/leave\n") || out.String() != "" {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
}

// A node that does not end is not waited for for ever, nor against the user's will.
func TestLeaveGivesUp(t *testing.T) {
	addr := adminStub(t, map[string]any{"POST /v1/leave": admin.LeaveResult{Node: "fra1", WithinSeconds: 3600, Message: "leaves"}, "GET /v1/status": admin.Status{}})
	a, out, errs := testApp(t)
	ctx, cancel := context.WithCancel(t.Context())
	exit := make(chan int)
	go func() { exit <- a.main(ctx, []string{"leave", "--admin", addr}, nil) }()
	out.waitFor(t, "leaves")
	cancel()
	if code := <-exit; code != 1 || !strings.Contains(errs.String(), "no longer waiting; fra1 goes on leaving") {
		t.Errorf("exit %d:\n%s", code, errs)
	}

	addr = adminStub(t, map[string]any{"POST /v1/leave": admin.LeaveResult{Node: "fra1", WithinSeconds: -10, Message: "leaves"}, "GET /v1/status": admin.Status{}})
	a, _, errs = testApp(t)
	if code := run(t, a, "leave", "--admin", addr); code != 1 || !strings.Contains(errs.String(), "fra1 is still there after 0s; its log tells why") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

// A node that was told to leave is stopped as by a signal; the exit code says that
// this was wanted.
func TestServeLeaves(t *testing.T) {
	n := newFakeNode()
	a, _, errs := testApp(t)
	a.newNode = func(*config.Config, node.Options) (server, error) { return n, nil }
	write(t, a.defaultConfig, `
name: fra1
cluster: {name: lab, gossip_listen: "127.0.0.1:0", peer_listen: "127.0.0.1:0"}
drain: {delay: 1s, handoff: 5m, timeout: 20s}
archives: {x: {upstream: "http://example.org/x", unsigned: true}}
`)
	exit := make(chan int, 1)
	go func() { exit <- a.main(context.Background(), []string{"serve"}, nil) }()
	<-n.started
	close(n.leaving)
	ctx := <-n.stopped
	if code := <-exit; code != exitLeft {
		t.Errorf("exit code %d: %s", code, errs)
	}
	// delay + handoff + timeout + grace
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 331*time.Second || time.Until(deadline) < 300*time.Second {
		t.Errorf("the drain may take until %v", deadline)
	}
	if !strings.Contains(errs.String(), "asked this node to leave") {
		t.Errorf("log:\n%s", errs)
	}
}

func TestClusterCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "prod")
	cluster := func(args ...string) (code int, out, errs string) {
		t.Helper()
		a, o, e := testApp(t)
		code = run(t, a, append([]string{"cluster"}, args...)...)
		return code, strings.ReplaceAll(o.String(), dir, "DIR"), strings.ReplaceAll(e.String(), dir, "DIR")
	}
	const made = `Made the cluster prod in DIR:

  DIR/ca-key.pem  lets nodes in; keep it here, on no node, and safe
  DIR/ca.pem      the certificate that goes with it
  DIR/gossip.key  what all nodes share
  DIR/fra1/       all that node fra1 needs
  DIR/ams1/       all that node ams1 needs

Next, for each node:

  1. Install aptmesh on its machine, here fra1. That makes the user aptmesh and the directories
     below. Copy the directory in which aptmesh was built, and run there, as root:
       make install
  2. Write the archives into DIR/fra1/aptmesh.yaml: the same on all nodes. Without them
     a node serves those of its own machine's apt. Copy its files to the machine:
       scp DIR/fra1/aptmesh.yaml root@fra1:/etc/aptmesh/
       scp DIR/fra1/*.pem DIR/fra1/gossip.key root@fra1:/var/lib/aptmesh/keys/
  3. On fra1, let the service read its keys, and nobody else:
       chown -R aptmesh: /var/lib/aptmesh/keys
  4. Open TCP and UDP 7946 and TCP 3143 to the other nodes, and TCP 3142 to the hosts.
  5. On fra1, check it, and start it, now and with the machine:
       aptmesh config check && systemctl enable --now aptmesh
     A node that ran before needs: systemctl restart aptmesh

The nodes look for each other by name (fra1, ams1). Where these names do not
resolve, write addresses into ` + "`seeds`" + ` of each aptmesh.yaml, or name each node with its
address: --nodes fra1=ADDRESS,...

Then ` + "`aptmesh status`" + ` on any node shows all of them.
`
	// The columns follow the length of the directory's name.
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if code, out, errs := cluster("init", "--name", "prod", "--nodes", "fra1,ams1", "--dir", dir); code != 0 || squeeze(out) != squeeze(made) {
		t.Errorf("exit %d: %s\n%s\nwant:\n%s", code, errs, out, made)
	}
	for _, tt := range []struct {
		args []string
		code int
		out  string // a part of stdout
		err  string // a part of stderr
	}{
		{[]string{"init", "--name", "prod", "--nodes", "fra1", "--dir", dir}, 1, "", "DIR is there already"},
		{[]string{"add", "nyc1", "--dir", dir}, 0, "Made DIR/nyc1/. Next:", ""},
		{[]string{"add", "nyc1", "--dir", dir}, 1, "", "DIR/nyc1 is there already"},
		{[]string{"renew", "--dir", dir}, 0, "New certificates for ams1, fra1, nyc1 in DIR.", ""},
		{[]string{"renew", "ams1", "--dir", dir}, 0, "New certificates for ams1 in DIR.", ""},
		{[]string{"renew", "lon1", "--dir", dir}, 1, "", "no node lon1"},
		{[]string{"rotate-key", "use", "--dir", dir}, 1, "", "the next step is add"},
		{[]string{"rotate-key", "add", "--dir", dir}, 0, "Then: aptmesh cluster rotate-key use --dir DIR", ""},
		{[]string{"rotate-key", "drop", "--dir", dir}, 1, "", "the next step is use"},
		{[]string{"rotate-key", "use", "--dir", dir}, 0, "Then: aptmesh cluster rotate-key drop --dir DIR", ""},
		{[]string{"rotate-key", "drop", "--dir", dir}, 0, "Changed gossip.key", ""},
		{[]string{}, 0, "rotate-key", ""},
		{[]string{"init", "--name", "prod"}, 2, "", "--nodes is missing; see `aptmesh cluster init --help`"},
		{[]string{"init", "--nodes", "a"}, 2, "", "--name is missing"},
		{[]string{"add", "x"}, 2, "", "--dir is missing"},
		{[]string{"add", "--dir", dir}, 2, "", "the name of the node is missing"},
		{[]string{"rotate-key", "twist", "--dir", dir}, 2, "", `invalid argument "twist"`},
		{[]string{"renew"}, 2, "", "--dir is missing"},
	} {
		code, out, errs := cluster(tt.args...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || code == 0 && errs != "" {
			t.Errorf("%q: exit %d\n%s%s", tt.args, code, out, errs)
		}
	}

	// Without --dir it is a directory here, of the cluster's name; with --seed
	// nothing is said of names that must resolve.
	t.Chdir(t.TempDir())
	code, out, errs := cluster("init", "--name", "lab", "--nodes", "a,b", "--seed", "10.0.0.1,10.0.0.2")
	if code != 0 || strings.Contains(out, "look for each other") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	text, err := os.ReadFile("lab/b/aptmesh.yaml")
	if err != nil || !strings.Contains(string(text), `seeds: [10.0.0.1, 10.0.0.2]`) {
		t.Errorf("%v:\n%s", err, text)
	}
	// On its machine a node has its keys with its state.
	if want := filepath.Join(config.DefaultStateDir, "keys"); pki.KeysDir != want || strings.Count(string(text), " "+want+"/") != 4 {
		t.Errorf("the keys are not all in %s:\n%s", want, text)
	}
	here, err := filepath.Abs("lab/b")
	if err != nil {
		t.Fatal(err)
	}
	a, o, e := testApp(t)
	write(t, "lab/b/whole.yaml", strings.ReplaceAll(string(text), pki.KeysDir, here)+"archives: {x: {upstream: \"http://example.org/x\", unsigned: true}}\n")
	if code := run(t, a, "config", "check", "lab/b/whole.yaml"); code != 0 || !strings.Contains(o.String(), "good: 1 archive") {
		t.Errorf("exit %d: %s%s", code, o, e)
	}
}
