package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/cluster/clusterconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/pki"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// Validate checks a configuration that was not loaded from a file. The error is a
// *Error with everything that is wrong.
func (c *Config) Validate() error {
	check := newChecker(c)
	check.check()
	if len(check.Problems) == 0 {
		return nil
	}
	e := &keys.Error{}
	for _, f := range check.Problems {
		e.Problems = append(e.Problems, keys.Problem{Key: f.Key, Message: f.Message})
	}
	return e
}

// checker looks for what is wrong with a configuration as a whole, and has the sections check themselves.
type checker struct {
	keys.Checker
	cfg  *Config
	used []usedAddress // addresses to listen on
}

func newChecker(cfg *Config) *checker {
	return &checker{cfg: cfg, Checker: keys.Checker{Texts: map[string]func(string) string{
		"suite": archiveconf.SuiteProblem, "label": pki.LabelProblem, "host": pki.HostProblem, "seed": clusterconf.SeedProblem, "connect": front.ConnectProblem,
		"pattern": holdconf.PatternProblem, "window": holdconf.WindowProblem, "when": snapshotconf.WhenProblem,
	}}}
}

// usedAddress is an address to listen on, with the key that has it.
type usedAddress struct{ key, addr string }

func (c *checker) check() {
	keys.Walk(c.cfg, func(f keys.Field) bool {
		c.files(f)
		if f.Tag.Get("check") == "listen" {
			f.Texts(func(key string, addr *string) { c.address(key, *addr, f) })
		} else {
			c.Tags(f)
		}
		return true
	})
	c.listeners()
	c.publicURL()
	c.admin()
	c.directories()
	c.archives()
	var classes []string
	for _, a := range c.cfg.Archives {
		if a.IsClass() {
			classes = append(classes, a.Name)
		}
	}
	holdconf.Check(&c.Checker, c.cfg.Mirrors, c.cfg.Archives.Names(), classes)
	snapshotconf.Check(&c.Checker, c.cfg.Snapshots.Schedule, c.cfg.Archives.Names())
	c.upstream()
	c.connect()
	host, _ := os.Hostname() // "" is refused where a name is needed
	clusterconf.Check(&c.Checker, c.cfg.Cluster, c.cfg.Name, strings.ToLower(host))
}

func (c *checker) archives() {
	if len(c.cfg.Archives) == 0 && !c.cfg.FromMachine {
		c.Problem("archives", "names no archive; leave the key out to serve those of this machine's own apt")
	}
	archiveconf.Check(&c.Checker, c.cfg.Archives, archiveconf.Node{IsSelf: c.cfg.IsSelf, Open: len(c.cfg.Clients.Allow) == 0})
}

// files checks the files that a key names, as far as this takes no knowledge of the key, and that the user
// of the service may read them.
func (c *checker) files(f keys.Field) {
	kind := f.Tag.Get("path")
	f.Texts(func(key string, name *string) {
		switch kind {
		case "file":
			c.File(key, *name, func(name string) error { _, err := files.ReadBounded(name, keyrings.MaxFile); return err })
			c.Readable(key, *name, false)
		case "token":
			c.Readable(key, *name, false)
		case "auth":
			if why := authConfProblem(*name); why != "" && !c.NoFiles {
				c.Problem(key, "%s", why)
			}
			inside, _ := filepath.Glob(filepath.Join(*name, "*.conf")) // as upstream.ReadAuthConf
			for _, name := range append(inside, *name) {
				c.Readable(key, name, false)
			}
		case "keyring":
			for _, name := range keyrings.Files(*name) {
				c.Readable(key, name, true)
			}
		case "list":
			if list, err := aptconf.ParseListURL(*name); err == nil {
				c.Readable(key, list.File, true)
			}
		}
	})
}

func (c *checker) connect() {
	for i, pattern := range c.cfg.ConnectAllow {
		if why := front.ConnectWarning(pattern); why != "" {
			c.Warning(fmt.Sprintf("connect_allow[%d]", i), "%s", why)
		}
	}
}

// directories checks where the node writes: durable state keeps out of what the cache uses itself.
func (c *checker) directories() {
	if c.cfg.Data == "" {
		c.Problem("data", "needs a directory")
	} else if why := c.cfg.Cache.Excess(c.cfg.Data); why != "" && !c.NoFiles {
		c.Warning("cache.max_size", "%s", why)
	}
	inside, err := filepath.Rel(c.cfg.Data, c.cfg.StateDir())
	if err != nil {
		return // one of the paths is relative to another place
	}
	switch first, _, _ := strings.Cut(inside, string(filepath.Separator)); first {
	case ".":
		c.Problem("state", "is the same directory as `data`; leave it out to have the state in a directory of its own inside `data`")
	case "blobs", "only", "tmp", "tables":
		c.Problem("state", "%s is a directory of the cache; leave it out, or name one outside `data`", c.cfg.State)
	}
}

// listeners checks the addresses at which hosts connect.
func (c *checker) listeners() {
	t := c.cfg.TLS
	if len(c.cfg.Listen) == 0 && len(t.Listen) == 0 {
		c.Problem("listen", `needs an address, such as ":3142"; with none here and none in tls.listen nobody can reach the node`)
	}
	if len(t.Listen) > 0 && (t.Cert == "" || t.Key == "") {
		c.Problem("tls", "needs both cert and key to listen with HTTPS")
		return
	}
	c.KeyPair("tls", t.Cert, t.Key)
}

// address checks an address to listen on, and that no other key has it. Those of a cluster count
// where there is one.
func (c *checker) address(key, addr string, f keys.Field) {
	if strings.HasPrefix(key, "cluster.") && c.cfg.Cluster.Name == "" || addr == "" && !strings.HasPrefix(key, "cluster.") && !strings.HasSuffix(key, "]") || strings.HasPrefix(addr, "unix:") && f.Tag.Get("path") == "socket" {
		return
	}
	if _, _, err := listen.SplitHostPort(addr); err != nil {
		c.Problem(key, `%q is not an address to listen on: write "host:port", or ":port" for every address of the machine`, addr)
		return
	}
	if i := slices.IndexFunc(c.used, func(used usedAddress) bool { return listen.Clash(used.addr, addr) }); i >= 0 {
		if other := c.used[i]; other.addr == addr {
			c.Problem(key, "%q is used by %s already", addr, other.key)
		} else {
			c.Problem(key, "%q and %q of %s cannot both be listened on; give one of them another port", addr, other.addr, other.key)
		}
		return
	}
	c.used = append(c.used, usedAddress{key, addr})
}

// publicURL checks the URL for hosts, and normalizes it.
func (c *checker) publicURL() {
	if c.cfg.PublicURL == "" {
		return
	}
	at, err := listen.NodeURL(c.cfg.PublicURL)
	if err != nil {
		c.Problem("public_url", "%s", err)
		return
	}
	c.cfg.PublicURL = at
}

func (c *checker) admin() {
	a := c.cfg.Admin
	if err := a.CheckAddress(); err != nil {
		c.Problem("admin", "%s", err)
	}
	if c.NoFiles {
		return
	}
	if err := a.CheckToken(); err != nil {
		c.Problem("admin_token_file", "%s", err)
	} else if files.OthersMayRead(a.TokenFile) {
		c.Warning("admin_token_file", "every user of this machine may read %s", a.TokenFile)
	}
}

func (c *checker) upstream() {
	if p := c.cfg.UpstreamClient.Proxy; p.URL() != nil && c.cfg.IsSelf(p.URL()) {
		c.Problem("upstream_client.proxy", "%s is this node itself; as its own proxy it would ask itself for ever", p.Setting())
	}
}

// authConfProblem says why a file of credentials, or a directory of them, cannot be used; "" where
// it can, or does not exist. Files that Ubuntu Pro writes are for root alone.
func authConfProblem(name string) string {
	_, err := upstream.ReadAuthConf(name)
	var unreadable *fs.PathError
	switch {
	case errors.As(err, &unreadable):
		return files.Trouble(unreadable.Path, unreadable, "")
	case err != nil:
		return err.Error()
	}
	return ""
}

// IsSelf reports whether a URL leads to one of this node's own listeners.
func (c *Config) IsSelf(u *url.URL) bool {
	return listen.LeadsTo(u, slices.Concat(c.Listen, c.TLS.Listen))
}
