package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
)

// Auto is the configuration of a node without a file: every default, and the archives that the
// apt configuration below root ("/") names with their keyrings, or Ubuntu's if it names none.
// The notes tell the operator what was chosen and what was skipped. Archives that need
// credentials are skipped: only an operator may open them to every host that reaches the node.
func Auto(root string) (*Config, []string, error) {
	cfg := Default()
	cfg.Data = dataDir(root)
	cfg.State = stateDir(root, cfg.Data)
	cfg.UpstreamClient.AuthConf = nil
	notes, err := cfg.addMachineArchives(root)
	if err != nil {
		return nil, notes, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, notes, fmt.Errorf("the machine's apt configuration does not make a valid one for aptmesh: %w", err)
	}
	return cfg, notes, nil
}

// addMachineArchives fills Archives from the machine's apt configuration.
func (c *Config) addMachineArchives(root string) (notes []string, err error) {
	c.FromMachine = true
	c.Archives, notes, err = archiveconf.OfMachine(root, c.leadsHere, c.fault)
	return notes, err
}

// fault says what is wrong with an archive, "" for nothing: one bad line of a machine's sources does
// not take the others with it.
func (c *Config) fault(a archiveconf.Archive) string {
	alone := *c
	alone.Archives = archiveconf.Archives{a}
	check := newChecker(&alone)
	check.check()
	for _, p := range check.Problems {
		if key := keys.Entry("archives", a.Name); p.Key == key || strings.HasPrefix(p.Key, key+".") {
			return strings.TrimPrefix(p.Message, p.Key+": ")
		}
	}
	return ""
}

// leadsHere is isSelf for apt's sources: there, port 3142 of this machine means this node, even
// if it listens on another port this time.
func (c *Config) leadsHere(u *url.URL) bool {
	withDefault := Config{Listen: append([]string{":3142", ":3143"}, c.Listen...), TLS: c.TLS}
	return withDefault.IsSelf(u)
}

// dataDir is the default where this user may write there, else a directory of the user's own.
func dataDir(root string) string {
	system := filepath.Join(root, Default().Data)
	if usable(system) {
		return system
	}
	if user, err := os.UserCacheDir(); err == nil {
		return filepath.Join(user, "aptmesh")
	}
	return system // creating it will fail, and that error names it
}

// stateDir is DefaultStateDir where this user may write there, else a directory of the
// user's own as the XDG Base Directory Specification places it, and inside data where
// the user has no home.
func stateDir(root, data string) string {
	system := filepath.Join(root, DefaultStateDir)
	if usable(system) {
		return system
	}
	if user := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(user) { // a relative one is to be ignored
		return filepath.Join(user, "aptmesh")
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) && writable(home) {
		return filepath.Join(home, ".local", "state", "aptmesh")
	}
	return InnerStateDir(data)
}

// usable reports whether this user may write in a directory, or may make it.
func usable(dir string) bool {
	if writable(dir) {
		return true
	}
	_, err := os.Stat(dir)
	return errors.Is(err, os.ErrNotExist) && writable(filepath.Dir(dir))
}

func writable(dir string) bool { return unix.Access(dir, unix.W_OK|unix.X_OK) == nil }
