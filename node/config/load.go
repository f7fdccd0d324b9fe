package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// maxConfigFile bounds the configuration file in bytes.
const maxConfigFile = 1 << 20

// Problem is one thing wrong with a configuration, and where.
type Problem struct {
	File      string // "" where the configuration came from no file
	Line, Col int    // from 1; 0 where the place is not known
	Message   string
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Message)
}

// Warning is something a configuration says that works but may not be meant.
type Warning = Problem

// Error is everything wrong with a configuration, in the order of the file.
type Error struct{ Problems []Problem }

// Error returns one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks a configuration file. It accepts nothing it does not
// understand: the error is a *Error with every problem of the file, unless
// the file could not be read. Relative paths in the file are relative to its
// directory. A file without `archives` gets those of Auto.
func Load(path string) (*Config, []Warning, error) {
	return loader{root: "/", check: newChecker}.load(path)
}

// loader is Load with what a test may want to replace.
type loader struct {
	root  string // where the machine's apt configuration is
	check func(*Config) *checker
}

func (l loader) load(path string) (*Config, []Warning, error) {
	text, err := ReadBounded(path, maxConfigFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	d := decodeConfig(path, text)
	if d.broken {
		return nil, nil, &Error{d.problems}
	}
	cfg := d.cfg

	var warnings []Warning
	warn := func(message string) { warnings = append(warnings, Warning{File: path, Message: message}) }
	d.placeDirs(l.root)
	if !d.isSet("upstream_client.auth_conf") {
		cfg.UpstreamClient.AuthConf = slices.DeleteFunc(cfg.UpstreamClient.AuthConf, func(name string) bool {
			why := unreadableAuthConf(name)
			if why != "" {
				warn("upstream_client.auth_conf: its default is left out: " + why)
			}
			return why != ""
		})
	}
	switch {
	case d.isSet("archives"):
	case len(d.problems) > 0:
		d.failed["archives"] = true // perhaps a misspelt one: that there are none is no news
	default:
		notes, err := cfg.addMachineArchives(l.root)
		if err != nil {
			return nil, nil, fmt.Errorf("%s names no archives, and the machine's own do not serve: %w", path, err)
		}
		for _, n := range notes {
			warn(n)
		}
	}

	c := l.check(cfg)
	c.check()
	for _, f := range c.problems {
		d.problemAt(f.key, f.message)
	}
	for _, f := range c.warnings {
		warnings = append(warnings, d.at(f.key, f.message))
	}
	if w, ok := worldReadableSecrets(path, cfg); ok {
		warn(w)
	}
	slices.SortStableFunc(warnings, Problem.compare)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, Problem.compare)
		return nil, warnings, &Error{d.problems}
	}
	return cfg, warnings, nil
}

// compare orders problems as they stand in the file.
func (p Problem) compare(other Problem) int {
	return cmp.Or(cmp.Compare(p.Line, other.Line), cmp.Compare(p.Col, other.Col))
}

// placeDirs works out where the files of the node lie. Without both keys each directory
// has its default; with `data` alone the state lies inside it, so that one volume holds
// everything.
func (d *decoder) placeDirs(root string) {
	c := d.cfg
	dataGiven := d.isSet("data")
	c.StateGiven = d.isSet("state") && c.State != ""
	if !dataGiven {
		c.Data = dataDir(root)
	}
	c.resolvePaths(filepath.Dir(d.file))
	switch {
	case c.StateGiven:
	case dataGiven:
		c.State = c.StateDir()
	default:
		c.State = stateDir(root, c.Data)
	}
}

// SetData moves the cache, and with it the state unless the configuration file says
// where that lies.
func (c *Config) SetData(dir string) {
	c.Data = dir
	if !c.StateGiven {
		c.State = ""
		c.State = c.StateDir()
	}
}

// resolvePaths makes relative paths relative to the configuration file's directory.
func (c *Config) resolvePaths(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	abs(&c.Data)
	abs(&c.State)
	abs(&c.AdminTokenFile)
	abs(&c.TLS.Cert)
	abs(&c.TLS.Key)
	abs(&c.Cluster.GossipKey)
	abs(&c.Cluster.CA)
	abs(&c.Cluster.Cert)
	abs(&c.Cluster.Key)
	if socket, ok := strings.CutPrefix(c.Admin, "unix:"); ok {
		abs(&socket)
		c.Admin = "unix:" + socket
	}
	absList := func(upstream *string) {
		if list, err := aptconf.ParseListURL(*upstream); err == nil && list.File != "" {
			abs(&list.File)
			*upstream = list.String()
		}
	}
	for i := range c.UpstreamClient.AuthConf {
		abs(&c.UpstreamClient.AuthConf[i])
	}
	for i := range c.Archives {
		a := &c.Archives[i]
		for j := range a.SignedBy {
			if !strings.Contains(a.SignedBy[j], "\n") {
				abs(&a.SignedBy[j])
			}
		}
		abs(&a.Credentials.PasswordFile)
		abs(&a.Credentials.BearerFile)
		absList(&a.Upstream)
		for j := range a.Upstreams {
			at := &a.Upstreams[j]
			absList(&at.URL)
			abs(&at.Credentials.PasswordFile)
			abs(&at.Credentials.BearerFile)
			abs(&at.TLS.CA)
			abs(&at.TLS.Cert)
			abs(&at.TLS.Key)
		}
	}
}

// worldReadableSecrets warns of secrets in a file that every user may read.
func worldReadableSecrets(path string, cfg *Config) (string, bool) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return "", false
	}
	for _, a := range cfg.Archives {
		written := func(at Mirror) bool { return !at.Credentials.Password.IsZero() || !at.Credentials.Bearer.IsZero() }
		if slices.ContainsFunc(a.Mirrors(), written) {
			return "holds secrets and every user of this machine may read it; chmod 640 it, or use password_file and bearer_file", true
		}
	}
	return "", false
}

// Peek returns what a configuration file says without checking it, so that a
// client finds its node's address and data whatever else is wrong there. What is
// wrong has its default. Archives are those of the file alone.
func Peek(path string) (*Config, error) {
	text, err := ReadBounded(path, maxConfigFile)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	d := decodeConfig(path, text)
	d.placeDirs("/")
	return d.cfg, nil
}

// DataDir returns the directory that a node without a configuration file uses.
func DataDir() string { return dataDir("/") }
