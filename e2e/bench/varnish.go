package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// varnishCommand sets Varnish up as a cache in memory, which is how Debian starts it and
// what it is best at: it writes nothing to a disk and hashes nothing. A miss streams to
// all who wait for it, and ranges are served, both by its own defaults. The storage holds
// everything of one run. Threads are made before they are needed: the herd would wait for
// them for seconds.
func varnishCommand(p place) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(p.upstream)
	if err != nil {
		return nil, err
	}
	work := filepath.Join(p.dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(p.dir, "archive.vcl")
	err = writeConfig(config, fmt.Sprintf(`vcl 4.1;
backend archive { .host = "%s"; .port = "%s"; }
sub vcl_hash { hash_data(req.url); return (lookup); }
sub vcl_backend_response {
  set beresp.do_stream = true;
  set beresp.ttl = 1d;
}
`, host, port))
	// "-j none": a user of its own may not enter a temporary directory.
	return exec.Command(p.program, "-F", "-j", "none", "-n", work, "-a", p.addr, "-T", "none", "-f", config,
		"-s", "malloc,4g", "-p", "thread_pool_min=500", "-p", "listen_depth=4096"), err
}
