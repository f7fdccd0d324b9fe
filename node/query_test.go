package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// logs is what a node writes to its logs.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// dnf and zypper add the query of a repository's URL to the URL of every file, mostly a token. Hosts with any tokens share
// one object, which the node fetches with a token of its own; no token is in a log, an answer, status or a file.
func TestTokensInQueries(t *testing.T) {
	const ours, theirs = "n0desecret", "h0stsecret"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("?"+ours+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var w *world
	fetched := make(map[string]int)
	var mu sync.Mutex
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fetched[r.URL.Path]++
		mu.Unlock()
		if r.URL.RawQuery != ours {
			http.Error(rw, "no token", http.StatusForbidden)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/denied.deb") {
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		w.up.ServeHTTP(rw, r)
	}))
	defer up.Close()
	var written logs
	w = newWorld(t, newArchive(), func(c *config.Config) {
		c.Archives[0].Upstream, c.Archives[0].Credentials = up.URL, upstream.Credentials{QueryFile: file}
		c.Archives[0].Aliases = []string{"http://updates.example.com/ubuntu"}
		c.Log.Access, c.Log.Format = true, "text"
	})
	w.stop()
	n, err := node.New(w.cfg, node.Options{Logger: slog.New(slog.NewTextHandler(&written, &slog.HandlerOptions{Level: slog.LevelDebug})), Name: "test", AccessLog: &written})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.node = n

	var answers strings.Builder
	for host := range 2 {
		for _, target := range []string{
			"/ubuntu/" + inRelease, "/ubuntu/" + packages, "/ubuntu/" + smallDeb, "http://updates.example.com/ubuntu/" + smallDeb,
		} {
			resp, _ := w.raw("GET", fmt.Sprintf("%s?%s%d", target, theirs, host))
			if resp.StatusCode != 200 {
				t.Errorf("host %d, %s: %s", host, target, resp.Status)
			}
			fmt.Fprintln(&answers, resp.Status, resp.Header)
		}
	}
	for _, path := range []string{inRelease, smallDeb} {
		if n := fetched["/"+path]; n != 1 {
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
	for target, status := range map[string]int{"/ubuntu/pool/denied.deb": 403, "/ubuntu/pool/none.deb": 404, "/nothing/x": 404, "http://stranger.example.com/x": 403} {
		resp, _ := w.raw("GET", target+"?"+theirs)
		if resp.StatusCode != status {
			t.Errorf("%s: %s", target, resp.Status)
		}
		body := new(strings.Builder)
		_ = resp.Write(body)
		fmt.Fprintln(&answers, body)
		if why := n.Why(target + "?" + theirs); why.Latest == nil || why.Latest.Status != status {
			t.Errorf("%s is not explained: %+v", target, why.Latest)
		}
	}
	said, err := json.Marshal([]any{n.Status(), n.Refused(), n.Why("/ubuntu/" + smallDeb + "?" + theirs), n.Why("/ubuntu/pool/denied.deb?" + theirs)})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Refused()) != 2 {
		t.Errorf("refused: %+v", n.Refused())
	}
	w.stop()
	shown, err := w.cfg.Show()
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"an answer": answers.String(), "status, refused or why": string(said), "a log": written.String(), "config show": string(shown)}
	for _, dir := range []string{w.cfg.Data, w.cfg.StateDir()} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			places[path] = path + string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for place, text := range places {
		for _, secret := range []string{ours, theirs} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s has a token: …%s…", place, text[max(0, i-120):min(len(text), i+40)])
			}
		}
	}
	if !strings.Contains(written.String(), "url=/ubuntu/"+smallDeb+"?***") {
		t.Errorf("the access log lacks the URL")
	}
}
