package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/aptmesh/aptmesh/node"
)

// printHints says what to type on a host, for each archive.
func printHints(w io.Writer, cfg *node.Config, addrs []string) {
	base := baseURL(cfg, addrs)
	if base == "" {
		return
	}
	fmt.Fprintf(w, "aptmesh serves %s at %s\n\n", archiveCount(cfg), base)
	fmt.Fprintf(w, "On a host, either send all http archives through it:\n\n%s\n", node.HostCommand(base))
	fmt.Fprintf(w, "or write its address into the sources (the only way for https archives), and into %s only\n%s\n\n", node.HostFile, node.RetrySetting)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, a := range cfg.Archives {
		fmt.Fprintf(t, "  %s\t# instead of %s\n", debLine(a, base), a.MainURL())
	}
	t.Flush()
	fmt.Fprintln(w)
}

func archiveCount(cfg *node.Config) string {
	if n := len(cfg.Archives); n != 1 {
		return fmt.Sprintf("%d archives", n)
	}
	return "1 archive"
}

// baseURL is the node's address as a host would write it: of the plain door, or
// of the TLS one where there is no other. "" where the node listens nowhere.
func baseURL(cfg *node.Config, addrs []string) string {
	if len(addrs) == 0 {
		return ""
	}
	scheme := "http"
	if len(cfg.Listen) == 0 {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
		if name, err := os.Hostname(); err == nil && name != "" {
			host = name
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// debLine is a line for sources.list. Words in capitals are for the reader to
// replace: the node does not know what suites a host wants.
func debLine(a node.ArchiveConfig, base string) string {
	what := a.Example
	switch {
	case what != "":
	case len(a.Suites) == 0:
		what = "SUITE COMPONENT"
	case strings.HasSuffix(a.Suites[0], "/"):
		what = a.Suites[0]
	default:
		what = a.Suites[0] + " COMPONENT"
	}
	option := ""
	switch {
	case a.Unsigned:
		option = "[trusted=yes] "
	case len(a.SignedBy) == 1 && strings.HasPrefix(a.SignedBy[0], "/usr/share/keyrings/"):
		option = "[signed-by=" + a.SignedBy[0] + "] "
	}
	return fmt.Sprintf("deb %s%s/%s %s", option, base, a.Name, what)
}
