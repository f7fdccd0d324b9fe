package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) snapshotDiffCommand() *cobra.Command {
	var plan admin.DiffPlan
	var timeout time.Duration
	cmd := a.asking(&cobra.Command{
		Use: "diff BEFORE AFTER", Short: "List the packages that differ between two snapshots", Args: takes(2, 2, "the snapshot before, or the one after"),
		Long: `List the packages that differ between two snapshots, two channels, or one of them and "live", the
archive as it is now. Either may also be a moment of the past, such as 20261124T000000Z, as far as the
node holds the archive as it was then. Indexes that hosts use are compared; an index that a snapshot does not keep is
fetched, and named where nobody has it any more.

USED is when a host last took a version of the package from this node. SECURITY says that a suite of
security updates has the same version.`,
		Example: `  aptmesh snapshot diff 2026-w48 2026-w49
  aptmesh snapshot diff stable live --suite '*-updates' --used`,
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		plan.Before, plan.After = args[0], args[1]
		d, err := client.DiffSnapshots(ctx, plan)
		return d, func(w io.Writer) error { return printDiff(w, d, time.Now()) }, err
	})
	cmd.Flags().StringSliceVar(&plan.Archives, "archive", nil, "`ARCHIVE` to compare, or class of archives; may be given several times (default all)")
	cmd.Flags().StringSliceVar(&plan.Suites, "suite", nil, "`PATTERN` of the suites to compare, such as 'noble*'; may be given several times (default all)")
	cmd.Flags().BoolVar(&plan.Used, "used", false, "only packages that hosts of this node took within prefetch.used_within")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "give up after this long")
	return cmd
}

func printDiff(w io.Writer, d *admin.Diff, now time.Time) error {
	var b strings.Builder
	for i, s := range d.Suites {
		if i > 0 {
			b.WriteByte('\n')
		}
		writeSuiteDiff(&b, &s, d, now)
	}
	if len(d.Suites) == 0 {
		b.WriteString("there is no suite to compare\n")
	} else {
		fmt.Fprintf(&b, "\nnew files %s, files that are gone %s\n", bytesOf(d.Bytes), bytesOf(d.Gone))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeSuiteDiff(b *strings.Builder, s *admin.SuiteDiff, d *admin.Diff, now time.Time) {
	switch {
	case s.Before.IsZero():
		fmt.Fprintf(b, "%s: only in %s\n", s.Suite, d.After)
		return
	case s.After.IsZero():
		fmt.Fprintf(b, "%s: only in %s\n", s.Suite, d.Before)
		return
	case s.Before.Equal(s.After) && len(s.Packages) == 0:
		fmt.Fprintf(b, "%s: the same, of %s\n", s.Suite, s.Before.Format(time.RFC3339))
	default:
		fmt.Fprintf(b, "%s: %s -> %s: %s\n", s.Suite, s.Before.Format(time.RFC3339), s.After.Format(time.RFC3339), countsOf(s.Packages))
	}
	for _, why := range s.Skipped {
		fmt.Fprintf(b, "  %s\n", why)
	}
	if len(s.Packages) == 0 {
		return
	}
	rows := make([][]string, len(s.Packages))
	for i, p := range s.Packages {
		v := cmp.Or(p.After, p.Before)
		security, used, size := "", "", "-"
		if v.Size >= 0 {
			size = bytesOf(v.Size)
		}
		if p.Security {
			security = "yes"
		}
		if !p.Used.IsZero() {
			used = ago(p.Used, now)
		}
		rows[i] = []string{p.Change, p.Name, p.Arch, versionText(p.Before), versionText(p.After), size, v.Component, v.Source, security, used}
	}
	table(b, []string{"CHANGE", "PACKAGE", "ARCH", "BEFORE", "AFTER", "SIZE", "COMPONENT", "SOURCE", "SECURITY", "USED"}, rows)
}

func versionText(v *admin.PackageVersion) string {
	switch {
	case v == nil:
		return "-"
	case v.Phased != nil && *v.Phased == 0:
		return v.Version + " (withdrawn)"
	case v.Phased != nil:
		return fmt.Sprintf("%s (%d%%)", v.Version, *v.Phased)
	}
	return v.Version
}

// countsOf says how many packages differ in which way.
func countsOf(packages []admin.PackageDiff) string {
	counts := make(map[string]int)
	for _, p := range packages {
		counts[p.Change]++
	}
	var parts []string
	for _, change := range []string{"added", "removed", "upgraded", "downgraded", "replaced"} {
		if n := counts[change]; n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", change))
		}
	}
	if len(parts) == 0 {
		return "no package differs"
	}
	return strings.Join(parts, ", ")
}
