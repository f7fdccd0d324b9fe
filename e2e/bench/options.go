package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// options is what the command line asks for, and the sizes that follow from it.
type options struct {
	quick, install bool
	only, peers    []string
	format         string // of the archive
	aptmesh        string // binary; "" = build it
	profile        string // directory for aptmesh's CPU profiles; "" = none
	temp           string // where everything of this run lives; removed at its end

	repeats            int           // of warm measurements, all peers in turn each time
	span               time.Duration // of one warm measurement
	herdSize, slowSize int           // bytes of a package
	herd               int           // clients
	idle               int           // connections
	fillers            int           // blobs in the cache that a start-up finds
	badFor             time.Duration // how long clients insist on a bad object
	patience           time.Duration // of clients with a warm server that sends nothing

	// Of clusters.
	pairRounds              int   // how often one server gives everything to another
	transfer, transferSmall int64 // bytes that a peer sends as one file, and of each of many small ones
	hops                    int   // small packages whose first byte is waited for
	fleet                   int   // clients of five nodes
	flips                   []int // sizes of the cluster that follows a publication
	flipRounds              int   // publications
}

func parseOptions(args []string) (options, error) {
	o := options{
		repeats: 3, span: 3 * time.Second, herdSize: 60_000_000, slowSize: 60_000_000, herd: 500,
		idle: 5000, fillers: 100_000, badFor: time.Minute, patience: 10 * time.Second,
		pairRounds: 2, transfer: 256_000_000, transferSmall: 64_000, hops: 400, fleet: 400, flips: []int{3, 5, 20, 50}, flipRounds: 7,
	}
	var only, peers string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&o.quick, "quick", false, "about five minutes: one repetition, shorter, smaller files")
	fs.BoolVar(&o.install, "install", false, "install missing peers with apt-get (needs root)")
	fs.StringVar(&only, "only", "", "scenarios to run, such as A,C; default all: "+scenarioList())
	fs.StringVar(&peers, "peers", "", "servers to measure, such as nginx,aptmesh; default all: "+peerList()+"; for T "+keeperList())
	fs.StringVar(&o.format, "format", "apt", "format of the archive: apt, or rpm or pacman in the scenarios that are not about apt alone (the herd C, the fleet Q, ...)")
	fs.StringVar(&o.aptmesh, "aptmesh", "", "aptmesh binary to measure; default: built from ./cmd/aptmesh")
	fs.StringVar(&o.profile, "profile", "", "directory to write CPU profiles of aptmesh to, one per warm measurement")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is not an option; see --help", fs.Arg(0))
	}
	if !slices.Contains(formatNames, o.format) {
		return o, fmt.Errorf("--format %s: there are %s", o.format, strings.Join(formatNames, ", "))
	}
	if o.quick {
		o.repeats, o.span = 1, 1500*time.Millisecond
		o.herdSize, o.slowSize, o.badFor = 20_000_000, 15_000_000, 20*time.Second
		o.idle, o.patience = 2000, 5*time.Second
		o.pairRounds, o.transfer, o.hops, o.flips, o.flipRounds = 1, 64_000_000, 200, []int{3, 5}, 3
	}
	o.only, o.peers = list(only, strings.ToUpper), list(peers, strings.ToLower)
	for _, letter := range o.only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.letter == letter }) {
			return o, fmt.Errorf("--only %s: there is no such scenario; there are %s", letter, scenarioList())
		}
		if o.format != "apt" && slices.ContainsFunc(scenarios, func(s scenario) bool { return s.letter == letter && s.apt }) {
			return o, fmt.Errorf("--only %s --format %s: that scenario has archives of apt only", letter, o.format)
		}
	}
	for _, name := range o.peers {
		if !slices.ContainsFunc(allPeers, func(p peer) bool { return p.name == name }) && !slices.ContainsFunc(keepers, func(k keeper) bool { return k.name == name }) {
			return o, fmt.Errorf("--peers %s: there is no such server; there are %s, and for T %s", name, peerList(), keeperList())
		}
	}
	return o, nil
}

// list splits a comma-separated option; nil for the empty one.
func list(text string, form func(string) string) []string {
	var all []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, form(item))
		}
	}
	return all
}

// wants reports whether name was asked for; an empty list asks for all.
func wants(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }
