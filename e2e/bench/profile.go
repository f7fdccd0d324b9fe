package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// startProfile collects a CPU profile of aptmesh while the next measurement runs,
// if the options ask for profiles. What it returns waits for the end of that.
// Profiling costs a few per cent: figures from such a run are not for quoting.
func (b *bench) startProfile(title string) (wait func()) {
	s := b.server("aptmesh")
	if b.profile == "" || s == nil {
		return func() {}
	}
	// All peers take turns; the profile covers the whole, idle time costs nothing.
	length := b.span * 9 / 8 * time.Duration(b.repeats*len(b.servers))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := fetchProfile(s.admin, filepath.Join(b.profile, fileName(title)), length); err != nil {
			progress("profile of %s: %v", title, err)
		}
	}()
	return func() { <-done }
}

func fetchProfile(admin, name string, length time.Duration) error {
	resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, int(length.Seconds())))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the admin interface answered %s", resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}

// fileName makes a file's name of a table's title.
func fileName(title string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, title)
	return strings.Trim(clean, "-") + ".pprof"
}
