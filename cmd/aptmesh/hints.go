package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
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

Without --format it is the format of the archives in the configuration: apt if there are any of apt,
or if the configuration names none.

URL is where hosts reach the node. The default is public_url of the configuration, or else
this machine's name with the port of the first listen address. Hosts cannot resolve the
name of a container, so give URL or public_url there.`,
		Example: `  aptmesh client-config | ssh HOST sudo tee ` + archives.HostFiles("", []archiveconf.Archive{{}})[0].Path + `
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
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT` of the archives: "+formatWords+" (default that of the configured archives)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(archiveconf.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formatWords are the values of --format, and the clients of each.
const formatWords = "apt, rpm (dnf, zypper) or pacman"

// printHostFile prints what a host needs for the archives of one format; "" is that of the configuration.
// For apt it is the same for all archives.
func (a *app) printHostFile(url string, cfg *config.Config, format string) error {
	formats := archiveFormats(cfg)
	switch {
	case format != "" && !slices.Contains(archiveconf.Formats(), format):
		return fmt.Errorf("--format: %q is none of %s", format, formatWords)
	case format == "" && slices.Contains(formats, "apt"):
		format = "apt"
	case format == "" && len(formats) > 1:
		return fmt.Errorf("the archives of the configuration have the formats %s, each with files of its own; choose one with --format", strings.Join(formats, " and "))
	case format == "":
		format = formats[0]
	case !slices.Contains(formats, format):
		return fmt.Errorf("--format: no archive of the configuration has the format %q; they have %s", format, strings.Join(formats, " and "))
	}
	of := slices.DeleteFunc(slices.Clone(cfg.Archives), func(a archiveconf.Archive) bool { return a.Format != format })
	if format == "apt" {
		of = []archiveconf.Archive{{Format: format}}
	}
	for _, f := range archives.HostFiles(url, of) {
		fmt.Fprintln(a.err, "# "+f.Path)
		if _, err := io.WriteString(a.out, f.Content()); err != nil {
			return err
		}
	}
	return nil
}

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
