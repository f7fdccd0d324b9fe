package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/config"
)

// archiveFormats are the formats that a configuration has archives of. Without a word about archives they
// are those of this machine's apt.
func archiveFormats(cfg *config.Config) []string {
	if len(cfg.Archives) == 0 {
		return []string{"apt"}
	}
	var formats []string
	for _, a := range cfg.Archives {
		formats = append(formats, a.Format)
	}
	slices.Sort(formats)
	return slices.Compact(formats)
}

// anyHost stands for the address of a node that does not know it.
const anyHost = "NODE"

// hostURL is where hosts reach a node that listens at addrs. Where the node cannot know its address, as in
// a container, anyHost stands in its place.
func hostURL(cfg *config.Config, addrs []string) (url string, known bool) {
	url, err := cfg.HostURL(addrs)
	if err != nil {
		url, _ = cfg.HostURLOn(addrs, anyHost) // "" where it listens nowhere, which no node does
	}
	return url, err == nil
}

// printHints says what to type on a host.
func printHints(w io.Writer, cfg *config.Config, url string, known bool) {
	fmt.Fprintf(w, "aptmesh serves %s at %s, from %s\n\n", archiveCount(cfg), url, cfg.Data)
	if !known {
		fmt.Fprintf(w, "%s stands for the address at which hosts reach this container; public_url sets it.\n\n", anyHost)
	}
	for _, f := range archives.HostFiles(url, cfg.Archives) {
		fmt.Fprintf(w, "On each host with %s:\n\n%s\n", f.Client, f.Command())
	}
	fmt.Fprintf(w, "%s/ in a browser shows the archives, their URLs here, and how the node does.\n\n", url)
}

// hostAdvice says in a line of the log how to point a host at the node.
func hostAdvice(url string, known bool) string {
	if known {
		return "`aptmesh client-config " + url + "` prints their settings"
	}
	return "`aptmesh client-config " + url + "` prints their settings, where " + anyHost + " is the address at which they reach this container"
}

// archiveCount says how much a configuration serves.
func archiveCount(cfg *config.Config) string {
	classes := 0
	for _, a := range cfg.Archives {
		if a.IsClass() {
			classes++
		}
	}
	text := counted(len(cfg.Archives)-classes, "archive")
	switch classes {
	case 0:
	case 1:
		text += " and 1 class of archives"
	default:
		text += fmt.Sprintf(" and %d classes of archives", classes)
	}
	return text
}

// watched reports whether a person reads what the node prints.
func watched(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
