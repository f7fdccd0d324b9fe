package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) refusedCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use:   "refused",
		Short: "List the requests of hosts that this node refused",
		Long: `List the requests that this node refused since its start: for archives that are not
configured, for tunnels to https sources (CONNECT), and for archives that a list of networks
denies to a host. The most frequent come first. When you move hosts from another cache, the
list shows what is left to do: configure an archive, or correct the sources of a host.

The node remembers 256 URLs, and 32 hosts for each. In a cluster, ask every node.`,
		Example: `  aptmesh refused
  aptmesh refused --json | jq -r '.[] | .url, (.clients[] | "  " + .)'`,
		Args: takes(0, 0, ""),
	}, func(ctx context.Context, client *admin.Client, _ []string) (any, func(io.Writer) error, error) {
		list, err := client.Refused(ctx)
		return list, func(w io.Writer) error { return printRefused(w, list, time.Now()) }, err
	})
}

// maxHostsShown is how many hosts of one URL a line names.
const maxHostsShown = 4

func printRefused(w io.Writer, list []admin.RefusedURL, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "the node has refused no request since it began")
		return err
	}
	rows := make([][]string, len(list))
	for i, r := range list {
		rows[i] = []string{humanize.Comma(r.Requests), r.URL, r.Reason, ago(r.Last, now), hostsOf(r)}
	}
	var b strings.Builder
	table(&b, []string{"REQUESTS", "URL", "REASON", "LAST", "HOSTS"}, rows)
	b.WriteString("\n`aptmesh why URL` says what to do about one.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func hostsOf(r admin.RefusedURL) string {
	named := strings.Join(r.Clients[:min(len(r.Clients), maxHostsShown)], ", ")
	rest := ""
	if more := len(r.Clients) - maxHostsShown; r.More {
		rest = " and more"
	} else if more > 0 {
		rest = fmt.Sprintf(" and %d more", more)
	}
	return named + rest
}
