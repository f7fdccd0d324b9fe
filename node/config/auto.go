package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/keyrings"
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

// fault says what is wrong with an archive, "" for nothing: one bad line of a machine's sources does
// not take the others with it.
func (c *Config) fault(a Archive) string {
	alone := *c
	alone.Archives = Archives{a}
	check := newChecker(&alone)
	check.check()
	for _, p := range check.problems {
		if key := archiveKey(a.Name); p.key == key || strings.HasPrefix(p.key, key+".") {
			return strings.TrimPrefix(p.message, p.key+": ")
		}
	}
	return ""
}

// adviseFile ends the errors of a machine whose own sources cannot be served.
const adviseFile = "name the archives in a configuration file and start with --config FILE"

// addMachineArchives fills Archives from the machine's apt configuration.
func (c *Config) addMachineArchives(root string) (notes []string, err error) {
	sources, err := aptconf.Read(aptconf.Options{Root: root, IsSelf: c.leadsHere})
	if err != nil {
		return nil, fmt.Errorf("reading the machine's apt configuration: %w", err)
	}
	c.FromMachine = true
	for _, n := range sources.Notices {
		notes = append(notes, n.String())
	}
	for _, source := range sources.Archives {
		a, why := fromSource(source, &notes)
		if why == "" {
			why = c.fault(a)
		}
		if why != "" {
			notes = append(notes, fmt.Sprintf("%s: %s: passed over: %s", source.Where, source.URL, why))
			continue
		}
		c.Archives = append(c.Archives, a)
	}
	switch {
	case len(c.Archives) > 0:
		return notes, nil
	case len(sources.Archives) > 0:
		return notes, errors.New("none of the archives that this machine's apt uses can be served (" +
			strings.Join(notes, "; ") + "); " + adviseFile)
	case sources.Loops > 0:
		return notes, errors.New("every archive that this machine's apt uses leads to this very node, so there is nowhere to fetch from; " + adviseFile)
	}
	return append(notes, "this machine's apt names no archive that can be served; serving Ubuntu's"), c.addUbuntu(root)
}

// leadsHere is isSelf for apt's sources: there, port 3142 of this machine means this node, even
// if it listens on another port this time.
func (c *Config) leadsHere(u *url.URL) bool {
	withDefault := Config{Listen: append([]string{":3142", ":3143"}, c.Listen...), TLS: c.TLS}
	return withDefault.IsSelf(u)
}

// fromSource turns an archive of apt's into one of ours, or says why not.
func fromSource(s aptconf.Archive, notes *[]string) (a Archive, why string) {
	a = NewArchive(s.Name)
	// The suites are watched from the start: then even a package that is asked for
	// first of all is checked.
	a.Upstream, a.Aliases, a.Suites = s.URL, s.Aliases, s.Suites
	if s.Private {
		return a, "it needs credentials, and everybody who reaches this node could read it; configure it under archives: in a configuration file if that is meant"
	}
	switch {
	case len(s.Trusted) > 0 && len(s.Trusted) == len(s.Suites):
		a.Unsigned = true
		*notes = append(*notes, fmt.Sprintf("%s: %s: accepted without a signature, because apt is told to trust it", s.Where, s.URL))
		return a, ""
	case len(s.Trusted) > 0:
		a.UnsignedSuites = s.Trusted
		*notes = append(*notes, fmt.Sprintf("%s: %s: %s accepted without a signature, because apt is told to trust it", s.Where, s.URL, strings.Join(s.Trusted, ", ")))
	}
	var troubles []string
	for _, entry := range s.SignedBy {
		ring, leftOut, err := keyrings.ReadEntry(entry)
		if err != nil {
			troubles = append(troubles, files.Trouble(entry, err, ""))
			continue
		}
		troubles = append(troubles, leftOut...)
		if len(ring.Fingerprints()) == 0 {
			continue
		}
		a.SignedBy = append(a.SignedBy, entry)
	}
	if len(a.SignedBy) > 0 {
		if !s.DefaultKeys {
			for _, t := range troubles {
				*notes = append(*notes, fmt.Sprintf("%s: %s: keyring left out: %s", s.Where, s.URL, t))
			}
		}
		return a, ""
	}
	if len(troubles) == 0 {
		troubles = []string{"no keyring signs it; give it a Signed-By" + keyringHint(s.URL, "")}
	}
	return a, strings.Join(troubles, "; ")
}

// addUbuntu fills Archives with those of Ubuntu.
func (c *Config) addUbuntu(root string) error {
	keyring := filepath.Join(root, aptconf.UbuntuKeyring)
	if _, err := keyrings.ReadFile(keyring); err != nil {
		return fmt.Errorf("this machine's apt names no archive, and for Ubuntu's a keyring is missing: %s; %s",
			files.Trouble(keyring, err, " (install the package ubuntu-keyring, or copy the file from an Ubuntu host)"), "or "+adviseFile)
	}
	for _, k := range aptconf.UbuntuArchives() {
		a := NewArchive(k.Name)
		a.Upstream, a.Aliases = k.URLs[0], k.URLs[1:]
		a.SignedBy = []string{keyring}
		c.Archives = append(c.Archives, a)
	}
	return nil
}

// dataDir is DefaultDataDir where this user may write there, else a directory of
// the user's own.
func dataDir(root string) string {
	system := filepath.Join(root, DefaultDataDir)
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
