package pki

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// NewCluster is what InitCluster makes.
type NewCluster struct {
	Name  string    // of the cluster
	Nodes []NewNode // one at least
	// Seeds is what every node joins through, "host" or "host:port"; none has each
	// join through all others, by name.
	Seeds []string
	// Dir is the directory to make. One that has something in it is left alone.
	Dir string
	// KeysDir is where the keys of a node will lie on its machine; "" is the KeysDir of a service.
	KeysDir string
}

// NewNode is a node that gets a directory.
type NewNode struct {
	Name string
	// Address is the host or IP address at which the others reach it; "" is its name.
	Address string
}

// ParseNode reads a node as operators write it: its name, or NAME=ADDRESS.
func ParseNode(text string) (NewNode, error) {
	name, address, given := strings.Cut(text, "=")
	if why := NameProblem(name); why != "" {
		return NewNode{}, errors.New(why)
	}
	if why := HostProblem(address); given && why != "" {
		return NewNode{}, fmt.Errorf("the address of node %s: %s", name, why)
	}
	return NewNode{name, address}, nil
}

// at is where the others find the node.
func (n NewNode) at() string { return cmp.Or(n.Address, n.Name) }

// InitCluster makes the authority, the gossip key and the directory of each node.
// All is there afterwards, or nothing.
func InitCluster(c NewCluster) error {
	if why := LabelProblem(c.Name); why != "" {
		return fmt.Errorf("the cluster's name %s", why)
	}
	if len(c.Nodes) == 0 {
		return errors.New("a cluster needs the name of one node at least")
	}
	for i, n := range c.Nodes {
		if why := NameProblem(n.Name); why != "" {
			return errors.New(why)
		}
		if slices.ContainsFunc(c.Nodes[:i], func(o NewNode) bool { return o.Name == n.Name }) {
			return fmt.Errorf("node %s is named twice; each node needs a name of its own", n.Name)
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
	for _, n := range c.Nodes {
		seeds := c.Seeds
		if len(seeds) == 0 {
			for _, other := range c.Nodes {
				if other.Name != n.Name {
					seeds = append(seeds, other.at())
				}
			}
		}
		if err := addNode(tmp, n, seeds, cmp.Or(c.KeysDir, KeysDir)); err != nil {
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
// seeds the node joins through those of the nodes there, or through these nodes. It returns where
// the keys will lie on the machine: where those of the other nodes do.
func AddNode(dir string, n NewNode, seeds []string) (keysDir string, err error) {
	there, err := clusterNodes(dir)
	if err != nil {
		return "", err
	}
	keysDir = KeysDir
	var known []string // what the nodes of the cluster join through
	for _, name := range there {
		cfg, err := readNodeConfig(filepath.Join(dir, name, nodeConfigFile))
		if err != nil {
			return "", err
		}
		if len(cfg.Cluster.Seeds) == 0 { // it was alone until now
			known = append(known, NewNode{name, cfg.Cluster.Advertise}.at())
		}
		known = append(known, cfg.Cluster.Seeds...)
		if filepath.IsAbs(cfg.Cluster.CA) {
			keysDir = filepath.Dir(cfg.Cluster.CA)
		}
	}
	if len(seeds) == 0 {
		slices.Sort(known)
		if seeds = slices.Compact(known); len(seeds) == 0 {
			return "", fmt.Errorf("%s has none of the nodes any more: say with --seed through whom the new one joins", dir)
		}
	}
	return keysDir, addNode(dir, n, seeds, keysDir)
}

// addNode makes the directory of a node, whole or not at all.
func addNode(dir string, n NewNode, seeds []string, keysDir string) error {
	name := n.Name
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
		{nodeConfigFile, nodeConfigText(authority.cluster(), n, seeds, keysDir), 0o644},
	} {
		if err := writeNew(filepath.Join(tmp, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return os.Rename(tmp, home)
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
