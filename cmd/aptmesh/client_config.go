package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

// clientConfig is what client-config was asked for.
type clientConfig struct {
	asking            clientFlags
	format, output    string
	channel, snapshot string
	query             admin.HostQuery
}

// The values of --output. Those of apt's files are archives.Form….
const (
	outputAnsible   = "ansible"
	outputCloudInit = "cloud-init"
)

var outputs = []string{archives.FormConf, archives.FormDeb822, archives.FormOneLine, outputAnsible, outputCloudInit}

func (a *app) clientConfigCommand() *cobra.Command {
	var c clientConfig
	cmd := &cobra.Command{
		Use:   "client-config [URL]",
		Short: "Print the settings for a host",
		Long: `Print the file that a host needs to fetch packages through this node, and on standard error
where it belongs.

With apt, the host's sources stay as they are: the settings send its http archives through this
node, and https sources bypass it. To cache one of those, configure its archive and replace the
archive's URL in the host's source by the node's URL for it. A browser shows these URLs on the
node's own page. With other formats the file names the archives that the configuration has.

If the node runs, the settings also have apt 2.7.12 and later (and that of Ubuntu 20.04 and 22.04)
find the node's snapshots: "apt -S stable update" and "apt -S stable upgrade" use the channel stable.

With --channel or --snapshot, the file names the suites that the node has under that name: a source of
apt in place of the host's own, or a repository. --output apt.conf leaves the sources as they are, and
has apt use the channel as if it were always called with -S; that takes an apt that knows -S, and
where it knows no snapshots of a source, it uses that source as it is.

Without --format it is the format of the archives in the configuration: apt if there are any of apt,
or if the configuration names none.

URL is where hosts reach the node. The default is public_url of the configuration, or else
this machine's name with the port of the first listen address. Hosts cannot resolve the
name of a container, so give URL or public_url there.`,
		Example: `  aptmesh client-config | ssh HOST sudo tee ` + archives.HostFiles("", []archiveconf.Archive{{}})[0].Path + `
  aptmesh client-config http://cache.example.org:3142
  aptmesh client-config --channel stable --suite 'noble*'
  aptmesh client-config --channel stable --output cloud-init
  aptmesh client-config --format rpm`,
		Args: takes(0, 1, "a URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			return a.printClientConfig(cmd.Context(), url, cfg, &c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.format, "format", "", "`FORMAT` of the archives: "+formatWords+" (default that of the configured archives)")
	flags.StringVar(&c.output, "output", "", "`KIND` of output: "+strings.Join(outputs, ", ")+" (default apt.conf, or deb822 of a channel or snapshot; rpm and pacman have files of their own)")
	flags.StringVar(&c.channel, "channel", "", "`NAME` of the channel that the host is to use")
	flags.StringVar(&c.snapshot, "snapshot", "", "`NAME` of the snapshot that the host is to use")
	flags.StringArrayVar(&c.query.Archives, "archive", nil, "`NAME` of an archive that the host is to use, with --channel or --snapshot (repeatable; default all)")
	flags.StringArrayVar(&c.query.Suites, "suite", nil, "`PATTERN` of suites that the host is to use, with --channel or --snapshot (repeatable; default all)")
	c.asking.registerAddress(cmd)
	cmd.MarkFlagsMutuallyExclusive("channel", "snapshot")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(archiveconf.Formats(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formatWords are the values of --format, and the clients of each.
const formatWords = "apt, rpm (dnf, zypper) or pacman"

func (a *app) printClientConfig(ctx context.Context, url string, cfg *config.Config, c *clientConfig) error {
	c.query.ID = c.channel + c.snapshot
	switch named := c.query.ID != ""; {
	case c.output != "" && !slices.Contains(outputs, c.output):
		return fmt.Errorf("--output: %q is none of %s", c.output, strings.Join(outputs, ", "))
	case !named && (c.output == archives.FormDeb822 || c.output == archives.FormOneLine):
		return fmt.Errorf("--output %s names suites: it needs --channel or --snapshot", c.output)
	case !named && len(c.query.Archives)+len(c.query.Suites) > 0:
		return fmt.Errorf("--archive and --suite need --channel or --snapshot")
	case named:
		return a.printNamed(ctx, url, c)
	}
	format, err := chooseFormat(archiveFormats(cfg), c.format, "of the configuration")
	if err != nil {
		return err
	}
	of := slices.DeleteFunc(slices.Clone(cfg.Archives), func(a archiveconf.Archive) bool { return a.Format != format })
	if format != "apt" {
		return a.printFiles(archives.HostFiles(url, of), nil, c.output)
	}
	files, notes := archives.SnapshotFiles(url, "", a.knownArchives(ctx, c), archives.FormConf)
	return a.printFiles(files, notes, c.output)
}

// knownArchives are the archives of apt that a running node has; it is asked for no longer than a moment. Without an
// answer there is one without suites.
func (a *app) knownArchives(ctx context.Context, c *clientConfig) []admin.HostArchive {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := a.client(c.asking)
	if err == nil {
		var all []admin.HostArchive
		if all, err = client.HostArchives(ctx, admin.HostQuery{ID: "live"}); err == nil {
			all = slices.DeleteFunc(all, func(h admin.HostArchive) bool { return h.Format != "apt" })
			if len(all) > 0 {
				return all
			}
			err = fmt.Errorf("it has no suite of apt yet")
		}
	}
	fmt.Fprintf(a.err, "# what apt needs for snapshots of this node (apt -S) is left out: %v\n", err)
	return []admin.HostArchive{{Format: "apt"}}
}

// printNamed prints what a host needs to use a snapshot or channel.
func (a *app) printNamed(ctx context.Context, url string, c *clientConfig) error {
	client, err := a.client(c.asking)
	if err != nil {
		return err
	}
	all, err := client.HostArchives(ctx, c.query)
	if err != nil {
		return err
	}
	var formats []string
	for _, h := range all {
		formats = append(formats, h.Format)
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing of %s is of these archives and suites (aptmesh snapshot show %s)", c.query.ID, c.query.ID)
	}
	slices.Sort(formats)
	format, err := chooseFormat(slices.Compact(formats), c.format, "under this name")
	if err != nil {
		return err
	}
	if format != "apt" && (c.output == archives.FormConf || c.output == archives.FormDeb822 || c.output == archives.FormOneLine) {
		return fmt.Errorf("--output %s is for apt, and these archives are of %s", c.output, format)
	}
	all = slices.DeleteFunc(all, func(h admin.HostArchive) bool { return h.Format != format })
	files, notes := archives.SnapshotFiles(url, c.query.ID, all, c.output)
	return a.printFiles(files, notes, c.output)
}

// chooseFormat is the one of formats that is meant; where says of what the archives are.
func chooseFormat(formats []string, format, where string) (string, error) {
	switch {
	case format != "" && !slices.Contains(archiveconf.Formats(), format):
		return "", fmt.Errorf("--format: %q is none of %s", format, formatWords)
	case format == "" && slices.Contains(formats, "apt"):
		return "apt", nil
	case format == "" && len(formats) > 1:
		return "", fmt.Errorf("the archives %s have the formats %s, each with files of its own; choose one with --format", where, strings.Join(formats, " and "))
	case format == "":
		return formats[0], nil
	case !slices.Contains(formats, format):
		return "", fmt.Errorf("--format: no archive %s has the format %q; they have %s", where, format, strings.Join(formats, " and "))
	}
	return format, nil
}

// printFiles prints files for a host, or what makes them.
func (a *app) printFiles(files []archives.HostFile, notes []string, output string) error {
	for _, note := range notes {
		fmt.Fprintln(a.err, "# "+note)
	}
	var text string
	switch output {
	case outputAnsible:
		text = archives.Ansible(files)
	case outputCloudInit:
		text = archives.CloudInit(files)
	default:
		for _, f := range files {
			fmt.Fprintln(a.err, "# "+f.Path)
			text += f.Content()
		}
	}
	_, err := io.WriteString(a.out, text)
	return err
}
