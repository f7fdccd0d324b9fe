package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// KeysDir is where the files of a node lie on its machine: with its state, because they are its
// identity and cannot be fetched again.
const KeysDir = "/var/lib/aptmesh/keys"

// nodeConfigText is the configuration of a node of a new cluster.
func nodeConfigText(cluster string, n NewNode, seeds []string, keysDir string) []byte {
	at := func(file string) string { return yamlText(filepath.Join(keysDir, file)) }
	advertise := "# advertise: the address at which the others reach this node, if it is not plain"
	if n.Address != "" {
		advertise = "advertise: " + yamlText(n.Address)
	}
	return fmt.Appendf(nil, `# aptmesh: node %[2]s of the cluster %[1]s, made by "aptmesh cluster".
# "aptmesh config show" prints every key there is, with its meaning.

name: %[3]s

cluster:
  name: %[4]s
  # datacenter: a label for "aptmesh status"; left out, it is the node's name
  %[10]s
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
`, cluster, n.Name, yamlText(n.Name), yamlText(cluster), yamlText(seeds), at(gossipKeyFile), at(authorityFile), at(certFile), at(keyFile), advertise)
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
		Name, Advertise, CA string
		Seeds               []string
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
