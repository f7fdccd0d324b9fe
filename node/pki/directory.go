package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
