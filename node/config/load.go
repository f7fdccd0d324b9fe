package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
)

// maxConfigFile bounds the configuration file in bytes.
const maxConfigFile = 1 << 20

// Load reads and checks a configuration file. It accepts nothing it does not
// understand: the error is a *keys.Error with every problem of the file, unless
// the file could not be read. Relative paths in the file are relative to its
// directory, and the configuration has them as absolute ones. A file without `archives` gets those of Auto.
func Load(path string) (*Config, []keys.Problem, error) { return Loader{}.Load(path) }

// Loader is Load for somebody who checks a configuration on behalf of a node.
type Loader struct {
	// NoFiles looks at nothing that the file names or leaves to the machine: the node runs on another one.
	NoFiles bool
	// Service, if set, is the user that the node runs as; it must be able to read what the file names.
	Service *files.User
	// Data, if set, is the directory of the cache in place of `data` of the file.
	Data string

	root string // of the machine's apt configuration; "" is "/"
}

// Load is as the function Load.
func (l Loader) Load(path string) (*Config, []keys.Problem, error) {
	root := cmp.Or(l.root, "/")
	text, err := files.ReadBounded(path, maxConfigFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg, d := decode(path, text)
	if d.Broken {
		return nil, nil, &keys.Error{Problems: d.Problems}
	}

	var warnings []keys.Problem
	warn := func(message string) { warnings = append(warnings, keys.Problem{File: path, Message: message}) }
	cfg.placeDirs(d, root)
	if l.Data != "" {
		cfg.SetData(l.Data)
	}
	if !d.IsSet("upstream_client.auth_conf") && !l.NoFiles {
		cfg.UpstreamClient.AuthConf = slices.DeleteFunc(cfg.UpstreamClient.AuthConf, func(name string) bool {
			why := authConfProblem(name)
			if why != "" {
				warn("upstream_client.auth_conf: its default is left out: " + why)
			}
			return why != ""
		})
	}
	switch {
	case d.IsSet("archives"):
	case len(d.Problems) > 0:
		d.Fail("archives") // perhaps it is misspelt: do not also report that it is missing
	case l.NoFiles:
		cfg.FromMachine = true
		warn("names no archives, so the node serves those of its machine's own apt, which are not looked at here")
	default:
		notes, err := cfg.addMachineArchives(root)
		if err != nil {
			return nil, nil, fmt.Errorf("%s names no archives, and the machine's own do not serve: %w", path, err)
		}
		warn(fmt.Sprintf("names no archives, so the node serves those of this machine's own apt: %s", strings.Join(cfg.Archives.Names(), ", ")))
		for _, n := range notes {
			warn(n)
		}
	}

	c := newChecker(cfg)
	c.NoFiles, c.Service = l.NoFiles, l.Service
	c.check()
	for _, f := range c.Problems {
		d.ProblemAt(f.Key, f.Message)
	}
	for _, f := range c.Warnings {
		warnings = append(warnings, d.At(f.Key, f.Message))
	}
	if w, ok := worldReadableSecrets(path, cfg); ok {
		warn(w)
	}
	if w := c.Unreadable(path, false); w != "" {
		warn(w)
	}
	slices.SortStableFunc(warnings, keys.Problem.Compare)
	if len(d.Problems) > 0 {
		slices.SortStableFunc(d.Problems, keys.Problem.Compare)
		return nil, warnings, &keys.Error{Problems: d.Problems}
	}
	return cfg, warnings, nil
}

// foreignKeys are those that stand in most files of apt-cacher-ng.
var foreignKeys = []string{"CacheDir", "LogDir", "Port", "BindAddress", "ReportPage", "ExThreshold", "PassThroughPattern", "Proxy"}

// decode reads a file, with the defaults in place of what it leaves out.
func decode(file string, text []byte) (*Config, *keys.Document) {
	cfg := Default()
	return cfg, keys.Decode(file, text, cfg, func(key string) string {
		if slices.Contains(foreignKeys, key) || strings.HasPrefix(key, "Remap-") {
			return ", which is one of apt-cacher-ng; docs/coming-from.md has what to write instead"
		}
		return ""
	})
}

// placeDirs sets the directories of the node. Without both keys each directory has its default.
// With `data` alone the state is inside it, so that one volume is enough.
func (c *Config) placeDirs(d *keys.Document, root string) {
	dataGiven := d.IsSet("data")
	c.StateGiven = d.IsSet("state") && c.State != ""
	if !dataGiven {
		c.Data = dataDir(root)
	}
	c.resolvePaths(filepath.Dir(absolute(d.File)))
	switch {
	case c.StateGiven:
	case dataGiven:
		c.State = c.StateDir()
	default:
		c.State = stateDir(root, c.Data)
	}
}

// SetData moves the cache, and also the state unless the configuration file names its
// directory.
func (c *Config) SetData(dir string) {
	c.Data = absolute(dir)
	if !c.StateGiven {
		c.State = ""
		c.State = c.StateDir()
	}
}

// SetState moves the state, wherever the cache is; "" has it inside.
func (c *Config) SetState(dir string) { c.State = absolute(dir) }

// SetAdmin sets the address of the admin interface.
func (c *Config) SetAdmin(address string) {
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		address = "unix:" + absolute(socket)
	}
	c.Admin.Address = address
}

// absolute is a path that means the same in whatever directory somebody reads of it: a node tells other
// processes its paths. It leaves "" as it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path // without a working directory there is nothing to make it absolute with
}

// resolvePaths makes relative paths relative to the configuration file's directory.
func (c *Config) resolvePaths(dir string) {
	abs := func(kind, name string) string {
		switch kind {
		case "socket": // an address, unless it begins like this
			if socket, ok := strings.CutPrefix(name, "unix:"); ok && socket != "" && !filepath.IsAbs(socket) {
				return "unix:" + filepath.Join(dir, socket)
			}
			return name
		case "list": // a URL; only that of a list of mirrors may name a file
			if list, err := aptconf.ParseListURL(name); err == nil && list.File != "" && !filepath.IsAbs(list.File) {
				list.File = filepath.Join(dir, list.File)
				return list.String()
			}
			return name
		case "keyring": // or a key in place of the path
			if strings.Contains(name, "\n") {
				return name
			}
		}
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	keys.Walk(c, func(f keys.Field) bool {
		if kind := f.Tag.Get("path"); kind != "" {
			f.Texts(func(_ string, name *string) { *name = abs(kind, *name) })
		}
		return true
	})
}

// worldReadableSecrets warns of secrets in a file that every user may read.
func worldReadableSecrets(path string, cfg *Config) (string, bool) {
	if !files.OthersMayRead(path) {
		return "", false
	}
	for _, a := range cfg.Archives {
		written := func(at archiveconf.Mirror) bool {
			return !at.Credentials.Password.IsZero() || !at.Credentials.Bearer.IsZero() || !at.Credentials.Query.IsZero()
		}
		if slices.ContainsFunc(a.Mirrors(), written) {
			return "holds secrets and every user of this machine may read it; chmod 640 it, or use password_file, bearer_file or query_file", true
		}
	}
	return "", false
}

// Peek returns what a configuration file says without checking it, so that a
// client finds its node's address and data whatever else is wrong there. What is
// wrong has its default. Archives are those of the file alone.
func Peek(path string) (*Config, error) {
	text, err := files.ReadBounded(path, maxConfigFile)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg, d := decode(path, text)
	cfg.placeDirs(d, "/")
	return cfg, nil
}

// DataDir returns the directory that a node without a configuration file uses.
func DataDir() string { return dataDir("/") }
