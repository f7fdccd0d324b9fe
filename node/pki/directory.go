package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/renameio/v2"
)

// What a new cluster starts from, made on an operator's machine: one directory with
// the authority and the gossip key, and in it one directory per node that is ready
// to be copied to that node.

// The files of a cluster's directory. The last four are those of a node, too.
const (
	authorityKeyFile = "ca-key.pem"
	authorityFile    = "ca.pem"
	gossipKeyFile    = "gossip.key"
	certFile         = "cert.pem"
	keyFile          = "key.pem"
	nodeConfigFile   = "aptmesh.yaml"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	nodeCertLife  = 2 * 365 * 24 * time.Hour
	// backdated is how far the clocks of the nodes may be behind that of the machine
	// that issues certificates.
	backdated = time.Hour
)

// NewCluster is what InitCluster makes.
type NewCluster struct {
	Name  string   // of the cluster
	Nodes []string // by name, one at least
	// Seeds is what every node joins through, "host" or "host:port"; none has each
	// join through all others, by name.
	Seeds []string
	// Dir is the directory to make. One that has something in it is left alone.
	Dir string
}

// InitCluster makes the authority, the gossip key and the directory of each node.
// All is there afterwards, or nothing.
func InitCluster(c NewCluster) error {
	if why := LabelProblem(c.Name); why != "" {
		return fmt.Errorf("the cluster's name %s", why)
	}
	if len(c.Nodes) == 0 {
		return errors.New("a cluster needs the name of one node at least")
	}
	for i, name := range c.Nodes {
		if why := NameProblem(name); why != "" {
			return errors.New(why)
		}
		if slices.Contains(c.Nodes[:i], name) {
			return fmt.Errorf("node %s is named twice; each node needs a name of its own", name)
		}
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is there already, and not empty; it stays as it is (`aptmesh cluster add` adds a node to a cluster)", c.Dir)
	}
	// Made beside its place, and moved there when it is whole.
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".aptmesh-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // nothing is there any more once it was moved
	if err := writeAuthority(tmp, c.Name); err != nil {
		return err
	}
	k, err := newGossipKey()
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(tmp, gossipKeyFile), gossipKeyText(k), 0o600); err != nil {
		return err
	}
	for _, name := range c.Nodes {
		seeds := c.Seeds
		if len(seeds) == 0 {
			seeds = slices.DeleteFunc(slices.Clone(c.Nodes), func(other string) bool { return other == name })
		}
		if err := addNode(tmp, name, seeds); err != nil {
			return err
		}
	}
	// Rename takes no directory's place, not even an empty one's.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(tmp, dir)
}

// AddNode makes the directory of one more node in the directory of a cluster. Without
// seeds the node joins through those of the nodes there, or through these nodes.
func AddNode(dir, name string, seeds []string) error {
	if len(seeds) == 0 {
		nodes, err := clusterNodes(dir)
		if err != nil {
			return err
		}
		if seeds, err = seedsOf(dir, nodes); err != nil {
			return err
		}
	}
	return addNode(dir, name, seeds)
}

// seedsOf is what the nodes of a cluster join through.
func seedsOf(dir string, nodes []string) ([]string, error) {
	var seeds []string
	for _, name := range nodes {
		cfg, err := readNodeConfig(filepath.Join(dir, name, nodeConfigFile))
		if err != nil {
			return nil, err
		}
		for _, seed := range cfg.Cluster.Seeds {
			if !slices.Contains(seeds, seed) {
				seeds = append(seeds, seed)
			}
		}
	}
	switch {
	case len(nodes) == 0:
		return nil, fmt.Errorf("%s has none of the nodes any more: say with --seed through whom the new one joins", dir)
	case len(seeds) == 0:
		return nodes, nil // it was alone until now
	}
	slices.Sort(seeds)
	return seeds, nil
}

// addNode makes the directory of a node, whole or not at all.
func addNode(dir, name string, seeds []string) error {
	if why := NameProblem(name); why != "" {
		return errors.New(why)
	}
	for _, seed := range seeds {
		if _, _, err := SplitSeed(seed); err != nil {
			return fmt.Errorf("seed %q is not a host, or a host and a port: %w", seed, err)
		}
	}
	authority, err := readAuthority(dir)
	if err != nil {
		return err
	}
	gossipKeys, err := os.ReadFile(filepath.Join(dir, gossipKeyFile))
	if err != nil {
		return err
	}
	certPEM, keyPEM, err := authority.issue(name)
	if err != nil {
		return err
	}
	home := filepath.Join(dir, name)
	if _, err := os.Lstat(home); err == nil {
		return fmt.Errorf("%s is there already; it stays as it is (`aptmesh cluster renew %s` issues a new certificate)", home, name)
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, f := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{authorityFile, authority.certPEM, 0o644},
		{certFile, certPEM, 0o644},
		{keyFile, keyPEM, 0o600},
		{gossipKeyFile, gossipKeys, 0o600},
		{nodeConfigFile, nodeConfigText(authority.cluster(), name, seeds), 0o644},
	} {
		if err := writeNew(filepath.Join(tmp, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return os.Rename(tmp, home)
}

// RenewNodes issues new certificates, with new private keys, for nodes in the
// directory of a cluster; no names mean all. It returns the nodes that it renewed.
func RenewNodes(dir string, nodes []string) ([]string, error) {
	known, err := clusterNodes(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range nodes {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s has no node %s; there are %s", dir, name, strings.Join(known, ", "))
		}
	}
	if len(nodes) == 0 {
		nodes = known
	}
	authority, err := readAuthority(dir)
	if err != nil {
		return nil, err
	}
	for i, name := range nodes {
		certPEM, keyPEM, err := authority.issue(name)
		if err != nil {
			return nodes[:i], err
		}
		home := filepath.Join(dir, name)
		if err := replace(filepath.Join(home, keyFile), keyPEM, 0o600); err != nil {
			return nodes[:i], err
		}
		if err := replace(filepath.Join(home, certFile), certPEM, 0o644); err != nil {
			return nodes[:i], err
		}
	}
	return nodes, nil
}

// The steps of putting a new gossip key in the place of the old one. After each the
// file goes to every node, and every node reloads, before the next step: so at any
// moment all nodes understand what any node sends.
const (
	RotateAdd  = "add"  // all learn to decrypt with a new key
	RotateUse  = "use"  // all encrypt with it
	RotateDrop = "drop" // all forget the old one
)

// RotateGossipKey takes one step in the directory of a cluster and in those of its
// nodes there.
func RotateGossipKey(dir, step string) error {
	master := filepath.Join(dir, gossipKeyFile)
	keys, err := ReadGossipKeys(master)
	if err != nil {
		return err
	}
	switch {
	case step == RotateAdd && len(keys) == 1:
		k, err := newGossipKey()
		if err != nil {
			return err
		}
		keys = append(keys, k)
	case step == RotateUse && len(keys) == 2:
		slices.Reverse(keys)
	case step == RotateDrop && len(keys) == 2:
		keys = keys[:1]
	case !slices.Contains([]string{RotateAdd, RotateUse, RotateDrop}, step):
		return fmt.Errorf("%q is none of the steps: %s, %s, %s", step, RotateAdd, RotateUse, RotateDrop)
	case len(keys) == 1:
		return fmt.Errorf("%s holds one key, so the next step is %s", master, RotateAdd)
	default:
		return fmt.Errorf("%s holds %d keys, so a rotation is under way: %s puts the second first, %s ends it with the first alone", master, len(keys), RotateUse, RotateDrop)
	}
	nodes, err := clusterNodes(dir)
	if err != nil {
		return err
	}
	text := gossipKeyText(keys...)
	for _, home := range append(nodes, ".") {
		if err := replace(filepath.Join(dir, home, gossipKeyFile), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clusterNodes are the nodes that have a directory in that of a cluster, by name.
func clusterNodes(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, authorityFile)); err != nil {
		return nil, fmt.Errorf("%s is no directory that `aptmesh cluster init` made: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, e := range entries {
		_, err := os.Stat(filepath.Join(dir, e.Name(), certFile))
		if err == nil && NameProblem(e.Name()) == "" {
			nodes = append(nodes, e.Name())
		}
	}
	return nodes, nil
}

// authority signs the certificates of a cluster's nodes.
type authority struct {
	cert    *x509.Certificate
	certPEM []byte
	key     *ecdsa.PrivateKey
}

// cluster is the name of the cluster.
func (a *authority) cluster() string { return a.cert.Subject.CommonName }

// writeAuthority makes a new one.
func writeAuthority(dir, cluster string) error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"aptmesh cluster"}, CommonName: cluster},
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs nodes, and no other authority
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, authorityKeyFile), keyPEM, 0o600); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, authorityFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// readAuthority reads the one of a cluster's directory.
func readAuthority(dir string) (*authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		return nil, fmt.Errorf("%s is no directory that `aptmesh cluster init` made: %w", dir, err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, authorityKeyFile))
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s and %s of %s are no PEM files", authorityFile, authorityKeyFile, dir)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", authorityFile, dir, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", authorityKeyFile, dir, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s of %s is not the key of %s", authorityKeyFile, dir, authorityFile)
	}
	return &authority{cert: cert, certPEM: certPEM, key: key}, nil
}

// issue makes a private key and a certificate for the node of that name.
func (a *authority) issue(name string) (certPEM, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	until := now.Add(nodeCertLife)
	if until.After(a.cert.NotAfter) {
		until = a.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"aptmesh node"}, CommonName: name},
		DNSNames:  []string{name},
		NotBefore: now.Add(-backdated),
		NotAfter:  until,
		KeyUsage:  x509.KeyUsageDigitalSignature,
		// A node is both ends of its connections.
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newGossipKey() ([]byte, error) {
	k := make([]byte, gossipKeyBytes)
	_, err := rand.Read(k)
	return k, err
}

// gossipKeyText is the file that ReadGossipKeys reads.
func gossipKeyText(keys ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString("# Gossip keys: the first encrypts, all decrypt.\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	return b.Bytes()
}

// nodeConfigText is the configuration of a node of a new cluster.
func nodeConfigText(cluster, name string, seeds []string) []byte {
	return fmt.Appendf(nil, `# aptmesh: node %[2]s of the cluster %[1]s, made by "aptmesh cluster".
# "aptmesh config show" prints every key there is, with its meaning.

name: %[3]s

cluster:
  name: %[4]s
  # datacenter: a label for "aptmesh status"; left out, it is the node's name
  # Nodes to join through, "host" or "host:port"; names must resolve on this machine.
  seeds: %[5]s
  gossip_key: %[6]s
  ca: %[7]s
  cert: %[8]s
  key: %[9]s

# The archives must be the same on all nodes. Without this section they are those of
# the machine's own apt.
# archives:
#   ubuntu:
#     upstream: http://archive.ubuntu.com/ubuntu
#     signed_by: [/usr/share/keyrings/ubuntu-archive-keyring.gpg]
`, cluster, name, yamlText(name), yamlText(cluster), yamlText(seeds), gossipKeyFile, authorityFile, certFile, keyFile)
}

// yamlText writes a value on one line, in quotes where YAML would take it for something else.
func yamlText(v any) string {
	text, err := yaml.MarshalWithOptions(v, yaml.Flow(true))
	if err != nil {
		panic(err) // strings always have a form in YAML
	}
	return strings.TrimSpace(string(text))
}

// nodeConfig is what pki reads of the file that nodeConfigText wrote: a node may have got more
// keys since, which are none of its business.
type nodeConfig struct {
	Name    string
	Cluster struct {
		Name  string
		Seeds []string
	}
}

func readNodeConfig(file string) (nodeConfig, error) {
	var cfg nodeConfig
	text, err := os.ReadFile(file)
	if err != nil {
		return cfg, err
	}
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		return cfg, fmt.Errorf("%s: %w", file, err)
	}
	return cfg, nil
}

// writeNew writes a file that must not be there yet.
func writeNew(name string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// replace replaces a file at once, and durably: a key is useless if a power cut takes its
// certificate.
func replace(name string, text []byte, mode fs.FileMode) error {
	return renameio.WriteFile(name, text, mode, renameio.WithStaticPermissions(mode))
}
