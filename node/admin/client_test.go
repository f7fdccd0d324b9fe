package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// stub answers as the admin interface does.
func stub(t *testing.T) http.Handler {
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, Status{Version: "v1", Ready: true, Archives: []ArchiveStatus{{Name: "ubuntu"}}})
	})
	mux.HandleFunc("GET "+whyPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, Why{URL: r.FormValue("url"), Size: proto.UnknownSize, Digest: proto.DigestOf(nil)})
	})
	mux.HandleFunc("POST "+refreshPath, func(w http.ResponseWriter, r *http.Request) {
		if suite := r.FormValue("suite"); suite != "ubuntu/noble" {
			w.WriteHeader(http.StatusNotFound)
			answer(w, Error{Message: "no suite " + suite})
			return
		}
		answer(w, RefreshResult{Suite: "ubuntu/dists/noble", Changed: true, Message: "adopted"})
	})
	mux.HandleFunc("POST "+leavePath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, LeaveResult{Node: "fra1", WithinSeconds: 60, Message: "leaves"})
	})
	return mux
}

func TestClient(t *testing.T) {
	tcp := httptest.NewServer(stub(t))
	defer tcp.Close()
	// The path of a socket is short: t.TempDir's may be too long.
	dir, err := os.MkdirTemp("", "aptmesh")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: stub(t)}
	go server.Serve(listener) // ends with Close
	defer server.Close()

	for _, addr := range []string{tcp.Listener.Addr().String(), "http://" + tcp.Listener.Addr().String() + "/", "unix:" + socket} {
		c, err := NewClient(addr, "")
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if s, err := c.Status(ctx); err != nil || s.Version != "v1" || !s.Ready || len(s.Archives) != 1 {
			t.Errorf("Status: %+v, %v", s, err)
		}
		const target = "http://archive.ubuntu.com/ubuntu/pool/a%2bb.deb?x=1&y"
		if w, err := c.Why(ctx, target); err != nil || w.URL != target || w.Digest != proto.DigestOf(nil) {
			t.Errorf("Why: %+v, %v", w, err)
		}
		if r, err := c.Refresh(ctx, "ubuntu/noble", false); err != nil || !r.Changed {
			t.Errorf("Refresh: %+v, %v", r, err)
		}
		if r, err := c.Leave(ctx); err != nil || r.Node != "fra1" || r.WithinSeconds != 60 {
			t.Errorf("Leave: %+v, %v", r, err)
		}
		if _, err := c.Refresh(ctx, "x/y", true); err == nil || err.Error() != "no suite x/y" {
			t.Errorf("Refresh of nothing: %v", err)
		}
	}
}

func TestClientErrors(t *testing.T) {
	if _, err := NewClient("3144", ""); err == nil {
		t.Error("an address without a host is taken")
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == whyPath {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte("<html>"))
	}))
	c, err := NewClient(other.Listener.Addr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(context.Background()); err == nil || !strings.Contains(err.Error(), "gives no answer of an aptmesh node") {
		t.Errorf("a web page for a status: %v", err)
	}
	if _, err := c.Why(context.Background(), "x"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a strange 404: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Status(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotRunning) {
		t.Errorf("a cancelled call: %v", err)
	}
	other.Close()
	for _, addr := range []string{other.Listener.Addr().String(), "unix:" + filepath.Join(t.TempDir(), "none")} {
		if c, err = NewClient(addr, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(context.Background()); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "aptmesh serve") {
			t.Errorf("nobody at %s: %v", addr, err)
		}
	}
}
