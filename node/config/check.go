package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/pki"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// Validate checks a configuration that was not loaded from a file. The error is a
// *Error with everything that is wrong.
func (c *Config) Validate() error {
	check := newChecker(c)
	check.check()
	if len(check.problems) == 0 {
		return nil
	}
	e := &Error{}
	for _, f := range check.problems {
		e.Problems = append(e.Problems, Problem{Message: f.message})
	}
	return e
}

// finding is a problem or warning that belongs to a key.
type finding struct{ key, message string }

// checker looks for what the type of each key cannot say: that values make sense, alone and
// together, and that the files they name are there.
type checker struct {
	cfg *Config
	// blind takes the files that the configuration names as given: those of another machine.
	blind bool
	// service is the user that must be able to read them; nil for this one alone.
	service *files.User
	used    []usedAddress   // addresses to listen on
	bad     map[string]bool // keys whose file cannot be read: one problem each is enough

	problems []finding
	warnings []finding
}

func newChecker(cfg *Config) *checker {
	return &checker{cfg: cfg, bad: make(map[string]bool)}
}

// usedAddress is an address to listen on, with the key that has it.
type usedAddress struct{ key, addr string }

func (c *checker) problem(key, format string, args ...any) {
	c.problems = append(c.problems, finding{key, key + ": " + fmt.Sprintf(format, args...)})
}

func (c *checker) warning(key, format string, args ...any) {
	c.warnings = append(c.warnings, finding{key, key + ": " + fmt.Sprintf(format, args...)})
}

func (c *checker) check() {
	c.cfg.walk(func(f field) bool { c.byTag(f); return true })
	if c.service != nil && !c.blind {
		c.cfg.walk(func(f field) bool { c.readableByService(f); return true })
	}
	c.listeners()
	c.publicURL()
	c.admin()
	if c.cfg.Data == "" {
		c.problem("data", "needs a directory")
	} else if why := c.cfg.Cache.Excess(c.cfg.Data); why != "" && !c.blind {
		c.warning("cache.max_size", "%s", why)
	}
	c.state()
	c.allArchives()
	c.upstream()
	c.connect()
	c.cluster()
}

// byTag checks a value as the tags of its key say.
func (c *checker) byTag(f field) {
	switch f.tag.Get("path") {
	case "file":
		c.file(f.path, f.value.String(), func(name string) error { _, err := files.ReadBounded(name, keyrings.MaxFile); return err })
	case "auth":
		for i, name := range f.value.Interface().([]string) {
			if why := authConfProblem(name); why != "" && !c.blind {
				c.problem(fmt.Sprintf("%s[%d]", f.path, i), "%s", why)
			}
		}
	}
	check := f.tag.Get("check")
	each := func(say func(key, text string)) {
		switch at := f.value.Interface().(type) {
		case []string:
			for i, text := range at {
				say(fmt.Sprintf("%s[%d]", f.path, i), text)
			}
		case string:
			say(f.path, at)
		}
	}
	if say := textChecks[check]; say != nil {
		each(func(key, text string) {
			if why := say(text); why != "" && (text != "" || key != f.path) {
				c.problem(key, "%s", why)
			}
		})
		return
	}
	switch check {
	case "":
	case "listen":
		each(func(key, addr string) { c.address(key, addr, f) })
	case "positive":
		if f.value.Int() <= 0 {
			c.problem(f.path, "must be more than 0")
		}
	case "second":
		if f.value.Int() < int64(time.Second) {
			c.problem(f.path, "must be at least 1s")
		}
	default:
		if words := strings.Split(check, "|"); len(words) > 1 {
			c.oneOf(f.path, f.value.String(), words...)
			return
		}
		var least, most int64
		if _, err := fmt.Sscanf(check, "%d-%d", &least, &most); err != nil {
			panic(f.row + ": no such check: " + check)
		}
		if n := f.value.Int(); n < least || n > most {
			c.problem(f.path, "%d is not between %d and %d", n, least, most)
		}
	}
}

// textChecks are the checks of a text, or of each entry of a list: what is wrong, "" for nothing.
// A text that is empty is not given.
var textChecks = map[string]func(text string) string{
	"suite": func(text string) string {
		if validSuite(text) {
			return ""
		}
		return fmt.Sprintf(`%q is not a suite: write it as in sources.list, such as noble-updates, or "./" for a flat repository`, text)
	},
	"label": pki.LabelProblem,
	"host":  pki.HostProblem,
	"seed": func(text string) string {
		if strings.Contains(text, "://") {
			return fmt.Sprintf("%q is a URL; write the host, or the host and the port of gossip, as in ams1 or ams1:7946", text)
		}
		if _, _, err := pki.SplitSeed(text); err != nil {
			return fmt.Sprintf("%q is not a host, or a host and a port: %v", text, err)
		}
		return ""
	},
}

// readableByService warns of files that the user of the service may not read, though this one may.
func (c *checker) readableByService(f field) {
	kind := f.tag.Get("path")
	warn := func(key, name string) {
		if why := c.unreadable(name, kind == "keyring" || kind == "list"); why != "" {
			c.warning(key, "%s", why)
		}
	}
	switch at := f.value.Interface().(type) {
	case string:
		switch list, err := aptconf.ParseListURL(at); {
		case kind == "file" || kind == "token":
			warn(f.path, at)
		case kind == "list" && err == nil:
			warn(f.path, list.File)
		}
	case []string:
		for i, entry := range at {
			key := fmt.Sprintf("%s[%d]", f.path, i)
			switch kind {
			case "keyring":
				for _, name := range keyrings.Files(entry) {
					warn(key, name)
				}
			case "auth":
				warn(key, entry)
				inside, _ := filepath.Glob(filepath.Join(entry, "*.conf")) // as upstream.ReadAuthConf
				for _, name := range inside {
					warn(key, name)
				}
			}
		}
	}
}

// unreadable says why the user of the service may not read a file, and what to do; "" if it may. What is
// public may be made readable for everybody.
func (c *checker) unreadable(name string, public bool) string {
	if name == "" || c.service == nil {
		return ""
	}
	at, isDir := c.service.Refuses(name)
	user := c.service.Name
	switch {
	case at == "":
		return ""
	case isDir:
		return fmt.Sprintf("the service's user %s may not enter %s, and so cannot read %s; move the file, or run: chmod a+x %s", user, at, name, at)
	case public:
		return fmt.Sprintf("the service's user %s may not read %s; run: chmod a+r %s", user, at, at)
	}
	return fmt.Sprintf("the service's user %s may not read %s; run: chgrp %s %s && chmod g+r %s", user, at, user, at, at)
}

// file checks a file that the configuration names, if it does: use reads it and says what is wrong.
func (c *checker) file(key, name string, use func(name string) error) bool {
	if name == "" || c.blind {
		return true
	}
	if c.bad[key] {
		return false
	}
	if err := use(name); err != nil {
		c.bad[key] = true
		c.problem(key, "%s", files.Trouble(name, err, ""))
		return false
	}
	return true
}

// keyPair checks a certificate and its key, which go together.
func (c *checker) keyPair(key, cert, private string) {
	switch {
	case (cert == "") != (private == ""):
		c.problem(key, "cert and key go together; one of them is missing")
	case cert == "" || c.blind || c.bad[key+".cert"] || c.bad[key+".key"]:
	default:
		if _, err := tls.LoadX509KeyPair(cert, private); err != nil {
			c.problem(key, "cert and key cannot be used: %v", err)
		}
	}
}

func (c *checker) connect() {
	for i, hostPort := range c.cfg.ConnectAllow {
		key := fmt.Sprintf("connect_allow[%d]", i)
		switch host, port, err := listen.SplitHostPort(hostPort); {
		case err != nil || port == "0" || host != "*" && pki.HostProblem(strings.TrimSuffix(strings.TrimPrefix(host, "*."), ".")) != "":
			c.problem(key, "%q is not a host and a port: write changelogs.ubuntu.com:443, *.docker.com:443 or *:443", hostPort)
		case host == "*":
			c.warning(key, "%q lets every client reach port %s of every public host through this node; name the hosts or domains that they need", hostPort, port)
		}
	}
}

// state keeps the directory of durable state out of what the cache uses itself.
func (c *checker) state() {
	inside, err := filepath.Rel(c.cfg.Data, c.cfg.StateDir())
	if err != nil {
		return // one of the paths is relative to another place
	}
	switch first, _, _ := strings.Cut(inside, string(filepath.Separator)); first {
	case ".":
		c.problem("state", "is the same directory as `data`; leave it out to have the state in a directory of its own inside `data`")
	case "blobs", "only", "tmp", "tables":
		c.problem("state", "%s is a directory of the cache; leave it out, or name one outside `data`", c.cfg.State)
	}
}

func (c *checker) oneOf(key, value string, valid ...string) {
	if slices.Contains(valid, value) {
		return
	}
	if best, ok := Nearest(value, valid); ok {
		c.problem(key, "%q is none of %s; did you mean %s?", value, strings.Join(valid, ", "), best)
		return
	}
	c.problem(key, "%q is none of %s", value, strings.Join(valid, ", "))
}

// listeners checks the addresses at which hosts connect.
func (c *checker) listeners() {
	t := c.cfg.TLS
	if len(c.cfg.Listen) == 0 && len(t.Listen) == 0 {
		c.problem("listen", `needs an address, such as ":3142"; with none here and none in tls.listen nobody can reach the node`)
	}
	if len(t.Listen) > 0 && (t.Cert == "" || t.Key == "") {
		c.problem("tls", "needs both cert and key to listen with HTTPS")
		return
	}
	c.keyPair("tls", t.Cert, t.Key)
}

// address checks an address to listen on, and that no other key has it. Those of a cluster count
// where there is one.
func (c *checker) address(key, addr string, f field) {
	if strings.HasPrefix(key, "cluster.") && c.cfg.Cluster.Name == "" || addr == "" && !strings.HasPrefix(key, "cluster.") && !strings.HasSuffix(key, "]") || strings.HasPrefix(addr, "unix:") && f.tag.Get("path") == "socket" {
		return
	}
	if _, _, err := listen.SplitHostPort(addr); err != nil {
		c.problem(key, `%q is not an address to listen on: write "host:port", or ":port" for every address of the machine`, addr)
		return
	}
	if i := slices.IndexFunc(c.used, func(used usedAddress) bool { return listen.Clash(used.addr, addr) }); i >= 0 {
		if other := c.used[i]; other.addr == addr {
			c.problem(key, "%q is used by %s already", addr, other.key)
		} else {
			c.problem(key, "%q and %q of %s cannot both be listened on; give one of them another port", addr, other.addr, other.key)
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
		c.problem("public_url", "%s", err)
		return
	}
	c.cfg.PublicURL = at
}

func (c *checker) admin() {
	a := c.cfg.Admin
	if err := a.CheckAddress(); err != nil {
		c.problem("admin", "%s", err)
	}
	if c.blind {
		return
	}
	if err := a.CheckToken(); err != nil {
		c.problem("admin_token_file", "%s", err)
	} else if pki.OthersMayRead(a.TokenFile) {
		c.warning("admin_token_file", "every user of this machine may read %s", a.TokenFile)
	}
}

func (c *checker) upstream() {
	if p := c.cfg.UpstreamClient.Proxy; p.URL() != nil && c.cfg.IsSelf(p.URL()) {
		c.problem("upstream_client.proxy", "%s is this node itself; as its own proxy it would ask itself for ever", p.Setting())
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
