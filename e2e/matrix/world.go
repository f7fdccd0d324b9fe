package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
)

// The ports, the same on every node's own address.
const (
	doorPort   = 3142
	peerPort   = 3143
	gossipPort = 7946
)

// world is some nodes of one cluster, or one that stands alone, in front of the
// archives of a batch of cells.
type world struct {
	dir    string
	nodes  []*site
	portal *httptest.Server // says the same whatever is asked, with 200
}

// site is one node.
type site struct {
	name string
	url  string // of its door
	data string
	node *node.Node
}

// newWorld starts the nodes for those cells, each of which has its mirrors by now.
func newWorld(ctx context.Context, o options, nodes int, cells []*cell) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
			w = nil
		}
	}()
	if w.dir, err = os.MkdirTemp("", "aptmesh-matrix-"); err != nil {
		return w, err
	}
	w.portal = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte("<html><body>Please log in to use this network.</body></html>\n"))
	}))
	addrs, err := lab.Loopbacks(nodes, doorPort, peerPort, gossipPort)
	if err != nil {
		return w, err
	}
	archives, err := w.archives(cells)
	if err != nil {
		return w, err
	}
	for i, addr := range addrs {
		s := &site{name: fmt.Sprintf("site%d", i+1), url: fmt.Sprintf("http://%s:%d", addr, doorPort)}
		s.data = filepath.Join(w.dir, s.name)
		text := fmt.Sprintf(`name: %s
listen: ["%s:%d"]
admin: ""
data: %s
cache: {max_size: 4GiB, memory: 8MiB, scrub: 0}
drain: {handoff: 0s, timeout: 5s}
upstream_client:
  proxy: direct
  auth_conf: []
  stall_timeout: %[5]s
  header_timeout: %[5]s
  connect_timeout: %[5]s
%[6]s`, s.name, addr, doorPort, s.data, o.timeout, archives)
		if nodes > 1 {
			text += fmt.Sprintf(`cluster:
  name: matrix
  insecure: true
  gossip_listen: "%[1]s:%[2]d"
  peer_listen: "%[1]s:%[3]d"
  advertise: %[1]s
  seeds: [%[4]s]
`, addr, gossipPort, peerPort, strings.Join(addrs, ", "))
		}
		if err := s.start(ctx, w.dir, text, o.log); err != nil {
			return w, err
		}
		w.nodes = append(w.nodes, s)
	}
	return w, w.whole(ctx)
}

// archives is that section of the configuration.
func (w *world) archives(cells []*cell) (string, error) {
	var b strings.Builder
	b.WriteString("archives:\n")
	for _, c := range cells {
		keyring := filepath.Join(w.dir, "keyring.gpg") // all archives are signed alike
		if err := os.WriteFile(keyring, testarchive.Keyring(testarchive.DefaultKey()), 0o644); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  %s:\n    signed_by: [%s]\n    check_every: 1h\n", c.id, keyring)
		if c.format.name != "apt" {
			fmt.Fprintf(&b, "    format: %s\n", c.format.name)
		}
		if len(c.mirrors) == 1 {
			fmt.Fprintf(&b, "    upstream: %s\n", c.mirrors[0].URL)
			continue
		}
		b.WriteString("    upstreams:\n")
		for i, m := range c.mirrors {
			priority := 2
			if i < c.bad {
				priority = 1 // it is asked first: else the fault might never strike
			}
			fmt.Fprintf(&b, "      - {url: %s, priority: %d}\n", m.URL, priority)
		}
	}
	return b.String(), nil
}

func (s *site) start(ctx context.Context, dir, text string, log *slog.Logger) error {
	file := filepath.Join(dir, s.name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	cfg, _, err := config.Load(file)
	if err != nil {
		return err
	}
	if s.node, err = node.New(cfg, node.Options{Logger: log.With("at", s.name)}); err != nil {
		return err
	}
	return s.node.Start(ctx)
}

// whole waits until all nodes are in one ring and in touch.
func (w *world) whole(ctx context.Context) error {
	return eventually(ctx, 3*time.Minute, "the nodes are one ring", func() bool {
		hash := ""
		for _, s := range w.nodes {
			c := s.node.Status().Cluster
			if c == nil {
				return len(w.nodes) == 1
			}
			active := 0
			for _, m := range c.Members {
				if m.State == admin.MemberActive && m.Health == admin.HealthOK {
					active++
				}
			}
			if active != len(w.nodes) || hash != "" && c.RingHash != hash {
				return false
			}
			hash = c.RingHash
		}
		return true
	})
}

// eventually waits for a condition.
func eventually(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	deadline := time.Now().Add(limit)
	for !ok() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// check re-hashes everything that the nodes keep.
func (w *world) check() error {
	for _, s := range w.nodes {
		err := filepath.WalkDir(filepath.Join(s.data, "blobs"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if sum := fmt.Sprintf("%x", sha256.Sum256(body)); sum != d.Name() {
				return fmt.Errorf("%s keeps %s with the digest %s", s.name, d.Name(), sum)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether a node keeps those bytes, as they are.
func (s *site) holds(body []byte) bool {
	name := fmt.Sprintf("%x", sha256.Sum256(body))
	kept, err := os.ReadFile(filepath.Join(s.data, "blobs", name[:2], name))
	return err == nil && string(kept) == string(body)
}

func (w *world) close() error {
	var errs []error
	for _, s := range w.nodes {
		errs = append(errs, s.node.Stop(context.Background()))
	}
	if w.portal != nil {
		w.portal.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
