package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) whyCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use:   "why URL",
		Short: "Explain what a host gets for a URL, and why",
		Long: `Explain what the node would answer to a request for a URL: which archive and generation the
file belongs to, what its content must be, whether the node stores it, and where the node
would fetch it. In a cluster it names the nodes that own the file (the first one fetches it
from upstream for all; the next ones take over if it fails), the nodes that store it, and
the order in which the node would ask them. The command itself fetches nothing.

If a request would fail, or if a host got an error for the URL within the last hour, it says
which error, why, and what to do.

The exit code is 0 if a host would get the file as far as the node knows, 1 if a request
would get an error now, and 2 if the node does not answer. An error that a host got earlier
does not count.

URL may be the one in apt's message, the URL at upstream, or ARCHIVE/PATH. apt's line about a file
does, too, with or without its beginning ("Err:3 URL SUITE InRelease").`,
		Example: `  aptmesh why http://cache:3142/ubuntu/dists/noble/InRelease
  aptmesh why http://archive.ubuntu.com/ubuntu/pool/main/h/hello/hello_2.10-3build1_amd64.deb
  aptmesh why ubuntu/dists/noble/main/binary-amd64/Packages.xz
  aptmesh why http://archive.ubuntu.com/ubuntu noble InRelease
  aptmesh why https://esm.ubuntu.com/infra/ubuntu/dists/noble-infra-updates/InRelease`,
		Args: takes(1, -1, "the URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return &exitError{exitFailing, err}
			}
			why, err := client.Why(cmd.Context(), strings.Join(args, " "))
			if err != nil {
				return &exitError{exitFailing, err}
			}
			if ask.json {
				err = a.printJSON(why)
			} else {
				printWhy(a.out, why)
			}
			if err == nil && why.Would != nil {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
	ask.register(cmd)
	return cmd
}

func printWhy(w io.Writer, why *admin.Why) {
	for _, s := range why.Sentences {
		fmt.Fprintln(w, s)
	}
	if why.Location == "" {
		return
	}
	if len(why.Sentences) > 0 {
		fmt.Fprintln(w)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("location", why.Location)
	row("kind", kindOf(why.Kind))
	row("suite", why.Suite)
	if !why.Generation.IsZero() {
		row("generation", why.Generation.UTC().Format(time.DateTime)+" UTC")
	}
	if why.Kind != "root" || why.Listed {
		listed := "no; signed metadata does not name it"
		switch {
		case why.Listed:
			listed = "yes"
		case len(why.Unread) > 0:
			listed = "not known yet; the indexes of " + strings.Join(why.Unread, ", ") + " have not been read"
		}
		row("listed", listed)
	}
	if !why.Digest.IsZero() {
		row("sha256", why.Digest.String())
	}
	if why.Size >= 0 && (why.Listed || why.Stored != "") {
		row("size", fmt.Sprintf("%s (%s bytes)", humanize.IBytes(uint64(why.Size)), humanize.Comma(why.Size)))
	}
	switch {
	case why.Stored == "disk":
		row("stored", "yes, on disk")
	case why.Stored != "":
		row("stored", "yes, in "+why.Stored)
	case why.InFlight:
		row("stored", "on its way")
	default:
		row("stored", "no")
	}
	row("owners", inOrder(why.Owners))
	row("holders", strings.Join(why.Holders, ", "))
	row("plan", numbered(why.Plan))
	row("upstream", strings.Join(why.UpstreamURLs, "\n\t"))
}

// inOrder lists nodes of which each takes over from the one before.
func inOrder(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return names[0] + ", then " + strings.Join(names[1:], ", ")
}

// numbered writes one step per line of a table's second column.
func numbered(steps []string) string {
	lines := make([]string, len(steps))
	for i, step := range steps {
		lines[i] = fmt.Sprintf("%d. %s", i+1, step)
	}
	return strings.Join(lines, "\n\t")
}

// kindOf is what a file is, in words for people.
func kindOf(kind string) string {
	switch kind {
	case "root":
		return "root of the suite: it lists the indexes, and all else is checked against it"
	case "by-hash":
		return "index, by its hash"
	}
	return kind
}
