package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/config"
)

func (a *app) clientConfigCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "client-config [URL]",
		Short: "Print the settings for a host",
		Long: `Print the file that a host needs to fetch packages through this node, and on standard error
where it belongs.

With apt, the host's sources stay as they are: the settings send its http archives through this
node, and https sources bypass it. To cache one of those, configure its archive and replace the
archive's URL in the host's source by the node's URL for it. A browser shows these URLs on the
node's own page. With other formats the file names the archives that the configuration has.

URL is where hosts reach the node. The default is public_url of the configuration, or else
this machine's name with the port of the first listen address. Hosts cannot resolve the
name of a container, so give URL or public_url there.`,
		Example: `  aptmesh client-config | ssh HOST sudo tee ` + archives.HostFiles("", []config.Archive{{}})[0].Path + `
  aptmesh client-config http://cache.example.org:3142
  aptmesh client-config --format rpm`,
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
			return a.printHostFile(url, cfg, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "apt", "`FORMAT` of the archives: as `format` of the configuration")
	return cmd
}

// printHostFile prints what a host needs for the archives of one format. For apt that is the same for all.
func (a *app) printHostFile(url string, cfg *config.Config, format string) error {
	of := slices.DeleteFunc(slices.Clone(cfg.Archives), func(a config.Archive) bool { return a.Format != format })
	if format == "apt" {
		of = []config.Archive{{Format: format}}
	}
	files := archives.HostFiles(url, of)
	if len(files) == 0 {
		return fmt.Errorf("--format: no archive of the configuration has the format %q", format)
	}
	for _, f := range files {
		fmt.Fprintln(a.err, "# "+f.Path)
		if _, err := io.WriteString(a.out, f.Content()); err != nil {
			return err
		}
	}
	return nil
}

// printHints says what to type on a host.
func printHints(w io.Writer, cfg *config.Config, addrs []string) {
	url, err := cfg.HostURL(addrs)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "aptmesh serves %s at %s\n\n", archiveCount(cfg), url)
	for _, f := range archives.HostFiles(url, cfg.Archives) {
		fmt.Fprintf(w, "On each host with %s:\n\n%s\n", f.Client, f.Command())
	}
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
