package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
)

func (a *app) clientConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "client-config [URL]",
		Short: "Print the apt settings for a host",
		Long: `Print the settings that send a host's http archives through this node, as the text of
` + front.HostFile + `. The host's sources stay as they are.

URL is where hosts reach the node. The default is public_url of the configuration, or else
this machine's name with the port of the first listen address. Hosts cannot resolve the
name of a container, so give URL or public_url there.

With these settings, https sources bypass the node. To cache one, configure its archive and
replace the archive's URL in the host's source by the node's URL for it. A browser shows
these URLs on the node's own page.`,
		Example: `  aptmesh client-config | ssh HOST sudo tee ` + front.HostFile + `
  aptmesh client-config http://cache.example.org:3142`,
		Args: takes(0, 1, "a URL"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg := config.Default()
			path, err := a.configPath()
			if err == nil && path != "" {
				cfg, err = config.Peek(path)
			}
			if err != nil {
				return err
			}
			if len(args) > 0 {
				cfg.PublicURL = args[0]
			}
			url, err := cfg.HostURL(slices.Concat(cfg.Listen, cfg.TLS.Listen))
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.out, front.HostSettings(url))
			return err
		},
	}
}

// printHints says what to type on a host.
func printHints(w io.Writer, cfg *config.Config, addrs []string) {
	url, err := cfg.HostURL(addrs)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "aptmesh serves %s at %s\n\n", archiveCount(cfg), url)
	fmt.Fprintf(w, "On each host, whose sources stay as they are:\n\n%s\n", front.HostCommand(url))
	fmt.Fprintf(w, "%s/ in a browser shows the archives, and what to write for https sources.\n\n", url)
}

func archiveCount(cfg *config.Config) string {
	if n := len(cfg.Archives); n != 1 {
		return fmt.Sprintf("%d archives", n)
	}
	return "1 archive"
}

// watched reports whether a person reads what the node prints: it is a terminal, and not one of a
// container, which goes into a log.
func watched(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !config.InContainer()
}
