package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) statusCommand() *cobra.Command {
	var ask clientFlags
	var ready bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of a running node",
		Long: `Show the state of a running node: what it stores, which generation of each suite hosts get
and how old that is, what it is fetching, and what is wrong.

What is wrong comes first: problems of the node asked, problems that other nodes of the
cluster report of themselves, nodes that cannot be reached, suites whose generation differs.

The columns of the nodes (* is the node asked):
  HEALTH    ok; what the node reports of itself (attention, failing); or what the node asked
            finds (unreachable, stalled, quarantined)
  RTT       round trip from the node asked
  SHARE     part of all files that the node owns: it fetches them from upstream for all
  OBJECTS, STORED   files in its store, and their size
  UPSTREAM  fetched from upstream since it started
  FROM, TO  what the node asked received from it, and sent to it, since it started

The columns of the suites:
  CHECKED   when upstream last had nothing newer; checks that failed since do not count
  CHANGED   when the node adopted this generation
  RETAINED  older generations that hosts can still read to the end

Pinned is what is never evicted: the metadata that hosts are served. A suite that hosts asked
for and did not get is failing until it works, or until no host has asked for it for a day.

The exit code is 0 if all is well, 1 if something needs attention, and 2 if the node does
not answer, is not ready, or something is failing: hosts get errors or old content, or soon
will. With --ready the exit code is 0 as long as hosts may use the node; the health check of
a container uses that. Colours appear on terminals only, and not if NO_COLOR is set.`,
		Example: `  aptmesh status
  aptmesh status --json | jq '.archives[].suites[] | select(.state != "fresh")'
  aptmesh status --json | jq '.cluster.members[] | {name, health, rtt_ms}'
  aptmesh status --admin /var/lib/aptmesh/admin/socket`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(ask)
			if err != nil {
				return &exitError{exitFailing, err}
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return &exitError{exitFailing, err}
			}
			if ask.json {
				err = a.printJSON(s)
			} else {
				err = printStatus(a.out, s, time.Now())
			}
			if err != nil {
				return err
			}
			if ready {
				return readyExit(s)
			}
			return statusExit(s.Judge(time.Now()))
		},
	}
	ask.register(cmd)
	cmd.Flags().BoolVar(&ready, "ready", false, "exit 0 as long as hosts may use the node")
	return cmd
}

// readyExit is the exit code of a health check: a container that is restarted because a
// mirror is down helps nobody.
func readyExit(s *admin.Status) error {
	if s.Ready {
		return nil
	}
	return &exitError{code: exitFailing}
}

// printStatus writes the status for a reader: what is wrong first, then a table
// per subject.
func printStatus(w io.Writer, s *admin.Status, now time.Time) error {
	var b strings.Builder
	paint := paintFor(w)
	state := paint.good.Sprint("ready")
	if !s.Ready {
		state = paint.bad.Sprint("not ready")
	}
	fmt.Fprintf(&b, "aptmesh %s on %s, up %s, %s\n", s.Version, s.Node, admin.Age(time.Duration(s.UptimeSeconds)*time.Second), state)
	for _, note := range s.Judge(now) {
		fmt.Fprintf(&b, "%s: %s\n", paint.level(note.Level), note.Text)
	}
	about := [][]string{
		{"listens", strings.Join(s.Addresses, ", ")},
		{"store", storeLine(s.Store)},
		{"traffic", trafficLine(s.Traffic)},
	}
	if offline := offlineLine(s); offline != "" {
		about = append(about, []string{"offline", offline})
	}
	if s.Prefetch.Enabled {
		about = append(about, []string{"prefetch", prefetchLine(s.Prefetch)})
	}
	if n := s.Snapshots; n.Snapshots+n.Channels > 0 {
		about = append(about, []string{"snapshots", fmt.Sprintf("%d, %d open; channels %d", n.Snapshots, n.Open, n.Channels)})
	}
	if s.Cluster != nil {
		about = append(about, clusterLines(s.Cluster)...)
	}
	fmt.Fprintln(&b)
	table(&b, nil, about)
	if s.Cluster != nil {
		fmt.Fprintln(&b)
		table(&b, []string{"NODE", "DATACENTER", "STATE", "HEALTH", "RTT", "SHARE", "OBJECTS", "STORED", "UPSTREAM", "FROM", "TO"}, memberRows(s.Cluster))
	}
	if rows := append(suiteRows(s.Archives, now), classRows(s.Classes)...); len(rows) > 0 {
		fmt.Fprintln(&b)
		table(&b, []string{"SUITE", "STATE", "GENERATION (UTC)", "CHECKED", "CHANGED", "RETAINED", "NOTE"}, rows)
	}
	if rows := mirrorRows(s.Archives, now); len(rows) > 0 {
		fmt.Fprintln(&b)
		table(&b, []string{"ARCHIVE", "MIRROR", "PRIO", "STATE", "SPEED", "ANSWERS IN", "NOTE"}, rows)
	}
	if rows := upstreamRows(s.Upstreams, now); len(rows) > 0 {
		fmt.Fprintln(&b)
		table(&b, []string{"UPSTREAM", "BUSY", "WAITING", "RECEIVED", "LAST ERROR"}, rows)
	}
	if rows := flightRows(s.Flights); len(rows) > 0 {
		fmt.Fprintln(&b)
		table(&b, []string{"FETCHING", "DONE", "OF", "READERS", "FROM"}, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// offlineLine says for what no upstream is asked, as the operator wants it.
func offlineLine(s *admin.Status) string {
	if s.Offline {
		return "no upstream is asked (offline: true)"
	}
	var names []string
	for _, a := range s.Archives {
		if a.Offline {
			names = append(names, a.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "no upstream is asked for " + strings.Join(names, ", ") + " (archives.NAME.offline)"
}

// table writes aligned columns; a row's trailing empty cells leave no blanks.
func table(w *strings.Builder, head []string, rows [][]string) {
	var aligned strings.Builder
	t := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	if head != nil {
		rows = append([][]string{head}, rows...)
	}
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(aligned.String()) {
		w.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func storeLine(s admin.StoreStatus) string {
	line := fmt.Sprintf("%s of %s in %s, %s", size(s.Used), size(s.Max), s.Dir, counted(s.Blobs, "object"))
	if s.Reserved > 0 {
		line += fmt.Sprintf(", %s arriving", size(s.Reserved))
	}
	line += fmt.Sprintf("; %s pinned", size(s.Pinned))
	if s.Damaged > 0 {
		line += fmt.Sprintf("; %s damaged and dropped", humanize.Comma(s.Damaged))
	}
	if s.ScanPending {
		line += "; still counting"
	}
	return line
}

func trafficLine(t admin.TrafficStatus) string {
	line := fmt.Sprintf("%s, %s, %s", counted(t.Requests, "request"), counted(t.Errors, "error"), size(t.Bytes))
	if shares := tierShares(t.Tiers); len(shares) > 0 {
		line += " (" + strings.Join(shares, ", ") + ")"
	}
	return line
}

// tierShares says which part of the files came from each tier. Each part is the difference between two
// rounded running totals, so that all add up to 100.
func tierShares(tiers map[string]admin.TierTraffic) []string {
	var all, soFar, percent int64
	for _, t := range tiers {
		all += t.Bytes
	}
	var shares []string
	for _, tier := range slices.Sorted(maps.Keys(tiers)) {
		if tiers[tier].Bytes == 0 {
			continue
		}
		soFar += tiers[tier].Bytes
		before := percent
		percent = int64(math.Round(100 * float64(soFar) / float64(all)))
		shares = append(shares, fmt.Sprintf("%d%% from %s", percent-before, tier))
	}
	return shares
}

func suiteRows(archives []admin.ArchiveStatus, now time.Time) [][]string {
	var rows [][]string
	for _, a := range archives {
		if len(a.Suites) == 0 {
			rows = append(rows, []string{a.Name + "/", "unused", "-", "-", "-", "-", a.Upstream})
		}
		for _, s := range a.Suites {
			checked := ago(s.LastCheck, now)
			if s.LastCheck.IsZero() && s.State == admin.SuiteFailing {
				checked = "failing for " + admin.Age(now.Sub(s.FailingSince))
			}
			rows = append(rows, []string{
				a.Name + "/" + s.Dir, s.State, date(s.Generation), checked, ago(s.LastChange, now),
				humanize.Comma(int64(s.Retained)), suiteNote(s, now),
			})
		}
	}
	return rows
}

// classRows are the classes of archives that no host has used yet.
func classRows(classes []admin.ClassStatus) (rows [][]string) {
	for _, c := range classes {
		if c.Archives == 0 {
			rows = append(rows, []string{c.Name + "/", "unused", "-", "-", "-", "-", "class " + c.Upstream})
		}
	}
	return rows
}

func suiteNote(s admin.SuiteStatus, now time.Time) string {
	var notes []string
	switch {
	case s.Error == "":
	case s.State == admin.SuiteFailing && !s.FailingSince.IsZero() && !s.LastCheck.IsZero():
		// CHECKED is about the last good check, which may be a moment ago.
		notes = append(notes, "failing for "+admin.Age(now.Sub(s.FailingSince))+": "+s.Error)
	default:
		notes = append(notes, s.Error)
	}
	if s.State == admin.SuiteStale && !s.Watched && s.Error == "" {
		notes = append(notes, "not watched, because no host asks for it")
	}
	switch {
	case s.Withheld:
		notes = append(notes, "expired "+date(s.ValidUntil)+", withheld since "+date(s.ServedUntil)+" (stale.serve_expired)")
	case s.Expired:
		notes = append(notes, "expired "+date(s.ValidUntil))
	case !s.ValidUntil.IsZero() && s.ValidUntil.Sub(now) < 48*time.Hour:
		notes = append(notes, "expires in "+admin.Age(s.ValidUntil.Sub(now)))
	}
	return strings.Join(notes, "; ")
}

func upstreamRows(upstreams []admin.UpstreamStatus, now time.Time) [][]string {
	sorted := slices.SortedFunc(slices.Values(upstreams), func(a, b admin.UpstreamStatus) int { return cmp.Compare(a.Host, b.Host) })
	var rows [][]string
	for _, u := range sorted {
		failed := u.LastError
		if failed != "" && !u.LastFail.IsZero() {
			failed = ago(u.LastFail, now) + ": " + failed
		}
		rows = append(rows, []string{u.Host, fmt.Sprintf("%d/%d", u.InUse, u.Limit), fmt.Sprint(u.Waiting), size(u.Bytes), failed})
	}
	return rows
}

func flightRows(flights []admin.FlightStatus) [][]string {
	var rows [][]string
	for _, f := range flights {
		of := "?"
		if f.Size >= 0 {
			of = size(f.Size)
		}
		rows = append(rows, []string{f.Location, size(f.Received), of, fmt.Sprint(f.Readers), cmp.Or(f.From, f.Source)})
	}
	return rows
}

func size(n int64) string {
	if n < 0 {
		return "?"
	}
	return humanize.IBytes(uint64(n))
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return admin.Age(now.Sub(t)) + " ago"
}
