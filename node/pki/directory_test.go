package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newTestCluster makes the directory of a cluster.
func newTestCluster(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "prod")
	if err := InitCluster(NewCluster{Name: "prod", Nodes: named(nodes...), Dir: dir}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree lists the files below a directory with their modes and contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] += "\n" + string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// loadNode reads the configuration of a node as its directory has it.
func loadNode(t *testing.T, dir, name string) nodeConfig {
	t.Helper()
	cfg, err := readNodeConfig(filepath.Join(dir, name, nodeConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// handshake connects two nodes as peers do, and returns what each end says.
func handshake(client, server *Identity, serverName string) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(b, &tls.Config{
			Certificates: []tls.Certificate{*server.cert}, ClientCAs: server.roots, ClientAuth: tls.RequireAndVerifyClientCert,
		}).Handshake()
	}()
	err := tls.Client(a, &tls.Config{Certificates: []tls.Certificate{*client.cert}, RootCAs: client.roots, ServerName: serverName}).Handshake()
	if err != nil {
		a.Close()
	}
	return errors.Join(err, <-served)
}

func nodeTrust(t *testing.T, dir, name string) *Identity {
	t.Helper()
	home := filepath.Join(dir, name)
	got, err := Read(Files{filepath.Join(home, authorityFile), filepath.Join(home, certFile), filepath.Join(home, keyFile)}, name)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What init makes is a configuration per node that needs nothing more, and the nodes
// it is for know each other.
// named are nodes without addresses.
func named(names ...string) (nodes []NewNode) {
	for _, name := range names {
		nodes = append(nodes, NewNode{Name: name})
	}
	return nodes
}

func TestInitCluster(t *testing.T) {
	dir := newTestCluster(t, "fra1", "ams1", "nyc1.example.org")
	modes := make(map[string]string)
	for name, content := range tree(t, dir) {
		modes[name], _, _ = strings.Cut(content, "\n")
	}
	want := map[string]string{".": "drwx------", "ca.pem": "-rw-r--r--", "ca-key.pem": "-rw-------", "gossip.key": "-rw-------"}
	for _, name := range []string{"fra1", "ams1", "nyc1.example.org"} {
		want[name] = "drwx------"
		for file, mode := range map[string]string{
			"ca.pem": "-rw-r--r--", "cert.pem": "-rw-r--r--", "key.pem": "-rw-------", "gossip.key": "-rw-------", "aptmesh.yaml": "-rw-r--r--",
		} {
			want[name+"/"+file] = mode
		}
	}
	for name := range want {
		if modes[name] != want[name] {
			t.Errorf("%s has mode %q, want %q", name, modes[name], want[name])
		}
		delete(modes, name)
	}
	if len(modes) > 0 {
		t.Errorf("there is more than there should be: %v", modes)
	}

	if cfg := loadNode(t, dir, "ams1"); cfg.Name != "ams1" || cfg.Cluster.Name != "prod" || !slices.Equal(cfg.Cluster.Seeds, []string{"fra1", "nyc1.example.org"}) {
		t.Errorf("configuration: %+v", cfg)
	}
	here, err := ReadGossipKeys(filepath.Join(dir, "ams1", gossipKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	there, err := ReadGossipKeys(filepath.Join(dir, "nyc1.example.org", gossipKeyFile))
	if err != nil || len(here) != 1 || len(here[0]) != 32 || !bytes.Equal(here[0], there[0]) {
		t.Errorf("gossip keys: %d and %d of them, %v", len(here), len(there), err)
	}

	fra, ams := nodeTrust(t, dir, "fra1"), nodeTrust(t, dir, "ams1")
	if err := handshake(fra, ams, "ams1"); err != nil {
		t.Errorf("fra1 and ams1 do not trust each other: %v", err)
	}
	if err := handshake(fra, ams, "fra1"); err == nil {
		t.Error("ams1 passes for fra1")
	}
	stranger := nodeTrust(t, newTestCluster(t, "ams1"), "ams1")
	if err := handshake(fra, stranger, "ams1"); err == nil {
		t.Error("a node of another cluster passes for ams1")
	}
	if err := handshake(stranger, ams, "ams1"); err == nil {
		t.Error("a node of another cluster is let in")
	}
	if left := time.Until(fra.Expires()); left < 700*24*time.Hour || left > 731*24*time.Hour {
		t.Errorf("the certificate ends in %v", left)
	}
}

func TestInitClusterWithSeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "below")
	err := InitCluster(NewCluster{Name: "123", Nodes: named("1e5", "null"), Seeds: []string{"cache.example.org", "[2001:db8::1]:7947"}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1e5", "null"} { // words that YAML would take for others
		cfg := loadNode(t, dir, name)
		if cfg.Name != name || cfg.Cluster.Name != "123" || !slices.Equal(cfg.Cluster.Seeds, []string{"cache.example.org", "[2001:db8::1]:7947"}) {
			t.Errorf("configuration of %s: %+v", name, cfg)
		}
	}
}

// Nodes that are named with their addresses find each other by these, and their keys are looked for
// where the operator wants them; a node that is added later goes by the others.
func TestInitClusterWithAddresses(t *testing.T) {
	dir, keys := filepath.Join(t.TempDir(), "prod"), filepath.Join(t.TempDir(), "keys: here")
	var nodes []NewNode
	for _, text := range []string{"fra1=10.0.0.5", "ams1=2001:db8::1", "nyc1"} {
		n, err := ParseNode(text)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	if err := InitCluster(NewCluster{Name: "prod", Nodes: nodes, Dir: dir, KeysDir: keys}); err != nil {
		t.Fatal(err)
	}
	if where, err := AddNode(dir, NewNode{"lon1", "lon1.example.org"}, nil); err != nil || where != keys {
		t.Errorf("the keys of a node that is added lie in %s, %v", where, err)
	}
	for name, want := range map[string]struct {
		advertise string
		seeds     []string
	}{
		"fra1": {"10.0.0.5", []string{"2001:db8::1", "nyc1"}},
		"ams1": {"2001:db8::1", []string{"10.0.0.5", "nyc1"}},
		"nyc1": {"", []string{"10.0.0.5", "2001:db8::1"}},
		"lon1": {"lon1.example.org", []string{"10.0.0.5", "2001:db8::1", "nyc1"}},
	} {
		c := loadNode(t, dir, name).Cluster
		if c.Advertise != want.advertise || !slices.Equal(c.Seeds, want.seeds) || c.CA != filepath.Join(keys, authorityFile) {
			t.Errorf("cluster of %s: %+v", name, c)
		}
	}
	for text, want := range map[string]string{
		"": "name", "a b": `"a b" cannot name a node`, "fra1=": "the address of node fra1", "fra1=10.0.0.5:7946": "the address of node fra1", "fra1=http://x": "the address of node fra1",
	} {
		if _, err := ParseNode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What is there stays, and what cannot be made leaves nothing behind.
func TestInitClusterRefuses(t *testing.T) {
	dir := newTestCluster(t, "fra1")
	before := tree(t, filepath.Dir(dir))
	elsewhere := filepath.Join(filepath.Dir(dir), "new")
	for _, tt := range []struct {
		c    NewCluster
		want string
	}{
		{NewCluster{Name: "prod", Nodes: named("fra1"), Dir: dir}, "is there already"},
		{NewCluster{Name: "prod", Nodes: named("fra1"), Dir: filepath.Join(dir, "ca.pem", "x")}, "not a directory"},
		{NewCluster{Name: "my cluster", Nodes: named("fra1"), Dir: elsewhere}, `"my cluster" cannot be used`},
		{NewCluster{Name: "prod", Dir: elsewhere}, "one node at least"},
		{NewCluster{Name: "prod", Nodes: named("a", "a"), Dir: elsewhere}, "named twice"},
		{NewCluster{Name: "prod", Nodes: named("a", "../b"), Dir: elsewhere}, `"../b" cannot name a node`},
		{NewCluster{Name: "prod", Nodes: named("a", "ca.pem"), Dir: elsewhere}, "ca.pem is there already"},
		{NewCluster{Name: "prod", Nodes: named("a"), Seeds: []string{"b:"}, Dir: elsewhere}, `seed "b:"`},
	} {
		if err := InitCluster(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("InitCluster(%+v): %v, want %q", tt.c, err, tt.want)
		}
	}
	sameTree(t, filepath.Dir(dir), before)

	// An empty directory is as good as none.
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := InitCluster(NewCluster{Name: "prod", Nodes: named("fra1"), Dir: elsewhere}); err != nil {
		t.Error(err)
	}
}

func sameTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := tree(t, dir)
	for name := range got {
		if got[name] != want[name] {
			t.Errorf("%s has changed:\n%s\nwas:\n%s", name, got[name], want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s has gone", name)
		}
	}
}

func TestAddNode(t *testing.T) {
	dir := newTestCluster(t, "fra1", "ams1")
	if _, err := AddNode(dir, NewNode{Name: "nyc1"}, nil); err != nil {
		t.Fatal(err)
	}
	cfg := loadNode(t, dir, "nyc1")
	if !slices.Equal(cfg.Cluster.Seeds, []string{"ams1", "fra1"}) || cfg.Cluster.Name != "prod" {
		t.Errorf("configuration: %+v", cfg.Cluster)
	}
	if err := handshake(nodeTrust(t, dir, "nyc1"), nodeTrust(t, dir, "ams1"), "ams1"); err != nil {
		t.Error(err)
	}

	before := tree(t, dir)
	for _, tt := range []struct{ dir, name, want string }{
		{dir, "ams1", "is there already"},
		{dir, "AMS", "cannot name a node"},
		{t.TempDir(), "x", "made"},
	} {
		if _, err := AddNode(tt.dir, NewNode{Name: tt.name}, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("AddNode(%q, %q): %v, want %q", tt.dir, tt.name, err, tt.want)
		}
	}
	sameTree(t, dir, before)

	// Of a single node the next one joins through that; where its directory went to
	// the node itself, somebody has to say through whom.
	alone := newTestCluster(t, "fra1")
	if _, err := AddNode(alone, NewNode{Name: "ams1"}, nil); err != nil {
		t.Fatal(err)
	}
	if cfg := loadNode(t, alone, "ams1"); !slices.Equal(cfg.Cluster.Seeds, []string{"fra1"}) {
		t.Errorf("seeds: %v", cfg.Cluster.Seeds)
	}
	for _, name := range []string{"fra1", "ams1"} {
		if err := os.RemoveAll(filepath.Join(alone, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := AddNode(alone, NewNode{Name: "nyc1"}, nil); err == nil || !strings.Contains(err.Error(), "--seed") {
		t.Errorf("AddNode without anybody: %v", err)
	}
	if _, err := AddNode(alone, NewNode{Name: "nyc1"}, []string{"fra1"}); err != nil {
		t.Error(err)
	}
}

func TestRenewNodes(t *testing.T) {
	dir := newTestCluster(t, "fra1", "ams1")
	before := tree(t, dir)
	if _, err := RenewNodes(dir, []string{"ams1", "lon1"}); err == nil || !strings.Contains(err.Error(), "no node lon1; there are ams1, fra1") {
		t.Errorf("RenewNodes: %v", err)
	}
	sameTree(t, dir, before)
	renewed, err := RenewNodes(dir, []string{"ams1"})
	if err != nil || !slices.Equal(renewed, []string{"ams1"}) {
		t.Fatal(renewed, err)
	}
	after := tree(t, dir)
	for name := range after {
		changed := after[name] != before[name]
		if want := name == "ams1/key.pem" || name == "ams1/cert.pem"; changed != want {
			t.Errorf("%s changed: %v", name, changed)
		}
	}
	if !strings.HasPrefix(after["ams1/key.pem"], "-rw-------") {
		t.Error("others may read the new key")
	}
	if err := handshake(nodeTrust(t, dir, "ams1"), nodeTrust(t, dir, "fra1"), "fra1"); err != nil {
		t.Error(err)
	}
	if renewed, err := RenewNodes(dir, nil); err != nil || !slices.Equal(renewed, []string{"ams1", "fra1"}) {
		t.Errorf("RenewNodes of all: %v, %v", renewed, err)
	}
}

// At each step of a rotation every node decrypts what any node encrypts, even those
// that are a step behind.
func TestRotateGossipKey(t *testing.T) {
	dir := newTestCluster(t, "fra1", "ams1")
	read := func(home string) [][]byte {
		t.Helper()
		keys, err := ReadGossipKeys(filepath.Join(dir, home, gossipKeyFile))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	contains := func(keys [][]byte, k []byte) bool {
		return slices.ContainsFunc(keys, func(other []byte) bool { return bytes.Equal(k, other) })
	}
	first := read(".")
	previous := first
	for _, step := range []string{RotateAdd, RotateUse, RotateDrop} {
		if err := RotateGossipKey(dir, step); err != nil {
			t.Fatal(err)
		}
		keys := read("fra1")
		if !contains(previous, keys[0]) || !contains(keys, previous[0]) {
			t.Errorf("after %s nodes with the new file and with the old one do not understand each other", step)
		}
		if other := read("ams1"); !bytes.Equal(bytes.Join(keys, nil), bytes.Join(other, nil)) {
			t.Errorf("after %s two nodes have different files", step)
		}
		previous = keys
	}
	if len(previous) != 1 || bytes.Equal(previous[0], first[0]) {
		t.Error("the old key is still there")
	}
	for _, tt := range []struct{ step, want string }{{RotateUse, "the next step is add"}, {RotateDrop, "the next step is add"}, {"twist", "none of the steps"}} {
		if err := RotateGossipKey(dir, tt.step); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("step %s: %v", tt.step, err)
		}
	}
	if err := RotateGossipKey(dir, RotateAdd); err != nil {
		t.Fatal(err)
	}
	if err := RotateGossipKey(dir, RotateAdd); err == nil || !strings.Contains(err.Error(), "is under way") {
		t.Errorf("a second rotation begins before the first has ended: %v", err)
	}
	// No step out of its turn throws the new key away.
	added := read(".")
	if err := RotateGossipKey(dir, RotateDrop); err == nil || !strings.Contains(err.Error(), "the next step is use") {
		t.Errorf("drop right after add: %v", err)
	}
	if err := RotateGossipKey(dir, RotateUse); err != nil {
		t.Fatal(err)
	}
	if err := RotateGossipKey(dir, RotateUse); err == nil || !strings.Contains(err.Error(), "the next step is drop") {
		t.Errorf("use twice: %v", err)
	}
	if keys := read("ams1"); len(keys) != 2 || !bytes.Equal(keys[0], added[1]) {
		t.Error("refused steps have changed the keys")
	}
	byHand := gossipKeyText(added...)
	if err := os.WriteFile(filepath.Join(dir, gossipKeyFile), byHand, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RotateGossipKey(dir, RotateDrop); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("two keys that were put there by hand: %v", err)
	}
	for name, content := range tree(t, dir) {
		if filepath.Base(name) == gossipKeyFile && !strings.HasPrefix(content, "-rw-------") {
			t.Errorf("others may read %s", name)
		}
	}
}

// sign makes a certificate as an operator's own authority might.
func sign(t *testing.T, dir, name string, change func(*x509.Certificate)) {
	t.Helper()
	a, err := readAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, _, err := a.issue(name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	template, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	change(template)
	key, keyPEM, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(nil, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, name)
	rewrite(t, filepath.Join(home, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	rewrite(t, filepath.Join(home, keyFile), keyPEM)
}

func rewrite(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := replace(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

var silent = slog.New(slog.DiscardHandler)
