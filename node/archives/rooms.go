package archives

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// upstreamConfig is what the HTTP client needs: client has what stands in no configuration. An archive
// without mirrors, which waits for its list of them, is not in it.
func upstreamConfig(client upstream.Config, cfg *config.Config, mirrors map[string][]archiveconf.Mirror) (upstream.Config, error) {
	u := client
	u.Settings, u.Offline, u.Configured = cfg.UpstreamClient, cfg.Offline, mirrorlist.OperatorURLs(cfg)
	for _, at := range slices.Concat(slices.Collect(maps.Values(mirrors))...) {
		if list, err := aptconf.ParseListURL(at.List); err == nil && list.File != "" {
			// A list on this machine is the operator's own word.
			if entry, err := url.Parse(at.URL); err == nil {
				u.Configured = append(u.Configured, entry)
			}
		}
	}
	for _, a := range cfg.Archives {
		if len(mirrors[a.Name]) == 0 {
			continue
		}
		archive, err := upstreamArchive(a, mirrors[a.Name])
		if err != nil {
			return u, fmt.Errorf("archives: %s: %w", a.Name, err)
		}
		u.Archives = append(u.Archives, archive)
	}
	return u, nil
}

// upstreamArchive is what the HTTP client needs to know of one archive.
func upstreamArchive(a archiveconf.Archive, mirrors []archiveconf.Mirror) (upstream.Archive, error) {
	archive := upstream.Archive{Name: a.Name, Offline: a.Offline}
	for _, at := range mirrors {
		m, err := upstreamMirror(at)
		if err != nil {
			return archive, fmt.Errorf("%s: %w", at.URL, err)
		}
		archive.Mirrors = append(archive.Mirrors, m)
	}
	if a.History != "" {
		at, err := url.Parse(a.History)
		if err != nil {
			return archive, fmt.Errorf("history: %w", err)
		}
		archive.History = at
	}
	return archive, nil
}

// upstreamMirror reads the secrets and certificates of one mirror.
func upstreamMirror(at archiveconf.Mirror) (upstream.Mirror, error) {
	m := upstream.Mirror{Priority: at.Priority, Weight: at.Weight, Listed: at.List != "" || at.Led}
	var err error
	if m.URL, err = url.Parse(at.URL); err != nil {
		return m, err
	}
	if m.Credentials, err = at.Credentials.Resolve(); err != nil {
		return m, fmt.Errorf("credentials: %w", err)
	}
	m.Roots, m.Certificate, err = at.TLS.Load()
	return m, err
}

// keys are the keys of an archive.
type keys struct {
	ring *pgp.Keyring // nil for none
	sum  string
}

func readKeys(a archiveconf.Archive) (k *keys, err error) {
	k = &keys{}
	if k.ring, err = a.Keyring(); err == nil && k.ring != nil {
		k.sum, err = k.ring.Sum()
	}
	return k, err
}

// trustOf is the same for archives that accept the same roots.
func trustOf(a archiveconf.Archive, keys string) string {
	trust := []any{a.Format, keys, a.Unsigned || a.TrustHTTPS, a.UnsignedSuites, a.Metalink}
	if a.Format == "rpm" { // whose roots name URLs
		trust = append(trust, a.MirrorURLs(), a.Aliases)
	}
	return fmt.Sprintf("%q", trust)
}

// mirrored are the suites of an archive that mirrors hold: they are checked from the start.
func mirrored(cfg *config.Config, archive string) (suites []string) {
	for _, m := range cfg.Mirrors {
		if m.Archive == archive {
			suites = append(suites, m.Suites...)
		}
	}
	return suites
}

// catalogArchives reads the keyrings.
func catalogArchives(cfg *config.Config) ([]catalog.Archive, error) {
	archives := make([]catalog.Archive, 0, len(cfg.Archives))
	rings := make(map[string]*keys) // the members of a class have the same keyrings
	for _, a := range cfg.Archives {
		from := fmt.Sprint(a.Format, a.WeakKeys, a.SignedBy)
		if rings[from] == nil {
			read, err := readKeys(a)
			if err != nil {
				return nil, err
			}
			rings[from] = read
		}
		ring := rings[from].ring
		names := keyless(a.Format)
		suites := func(named []string) []proto.Suite {
			all := make([]proto.Suite, len(named))
			for i, s := range named {
				all[i] = names.SuiteNamed(s)
			}
			return all
		}
		unsigned := suites(a.UnsignedSuites)
		keyPlace := "archives." + cmp.Or(a.Class, a.Name) + ".signed_by"
		if dir := keyrings.Dir(a.SignedBy); dir != "" {
			keyPlace = "a file in " + dir
		}
		metalinks, err := a.Metalinks()
		if err != nil {
			return nil, err
		}
		archives = append(archives, catalog.Archive{
			Name: a.Name, Format: newFormat(a.Format, trust{
				keyring: ring, keyPlace: keyPlace, unsigned: a.Unsigned || a.TrustHTTPS, unsignedSuites: unsigned, metalinks: metalinks,
				urls: slices.Concat(a.MirrorURLs(), a.Aliases),
			}),
			Trust: trustOf(a, rings[from].sum), Suites: suites(slices.Concat(a.Suites, mirrored(cfg, a.Name))), CheckEvery: a.CheckEvery, MaxFuture: a.MaxFuture, AcceptOlder: a.AcceptsOlderAfter(),
			ServeExpired: a.ServeExpired, Offline: a.Offline || cfg.Offline, Immutable: a.NeverChanges(time.Now()), Transient: a.Class != "",
		})
	}
	return archives, nil
}

// frontRules are what the frontend needs to know of the archives and of its clients.
func (a *Archives) frontRules(cfg *config.Config, mirrors map[string][]archiveconf.Mirror) (front.Rules, error) {
	rules := front.Rules{
		Classes: a.classesOf(cfg), Connect: cfg.ConnectAllow, PublicURL: cfg.PublicURL, Clients: cfg.Clients,
		HostFiles: func(node string, closed func(string) bool) []proto.HostFile {
			return HostFiles(node, slices.DeleteFunc(slices.Concat(cfg.Archives, cfg.Classes), func(a archiveconf.Archive) bool { return closed(a.Name) || strings.HasPrefix(a.Name, historyPrefix) }))
		},
	}
	claimed := mirrorlist.NewClaims(cfg)
	inner := innerOf(cfg)
	formats := formatsOf(cfg)
	known := knownNames(cfg)
	for _, archive := range cfg.Archives {
		shown := front.Archive{
			Name: archive.Name, Aliases: slices.Concat(archive.Aliases, known[archive.Name]), Format: formats.of(archive.Name),
			Allow: archive.Allow, Deny: archive.Deny, HostLists: hostLists(archive.Format),
		}
		if u := historyURL(archive); u != nil {
			shown.History = func(at time.Time) string { return upstream.HistoryAt(u, at).String() }
		}
		if in := inner[archive.Name]; in != nil {
			shown.Inner = in.at
		}
		if m := a.table.made()[archive.Name]; m != nil {
			shown.Used = m.touch
		}
		for _, at := range mirrors[archive.Name] {
			u, err := url.Parse(at.URL)
			if err != nil {
				return rules, fmt.Errorf("archives: %s: %s: %w", archive.Name, at.URL, err)
			}
			if claimed.Take(archive.Name, u) {
				shown.Mirrors = append(shown.Mirrors, u)
			}
		}
		shown.Upstream = shownURL(archive, shown.Mirrors)
		rules.Archives = append(rules.Archives, shown)
	}
	rules.Lists = a.frontLists(cfg, rules.Archives)
	return rules, nil
}

// shownURL is the URL that the frontend names of an archive: the first mirror of the configuration, else
// the first that a list brought. While there is none, hosts reach the archive by its name and aliases
// alone.
func shownURL(a archiveconf.Archive, mirrors []*url.URL) *url.URL {
	if urls := a.MirrorURLs(); len(urls) > 0 {
		if u, err := url.Parse(urls[0]); err == nil {
			return u
		}
	}
	if len(mirrors) > 0 {
		return mirrors[0]
	}
	return &url.URL{Scheme: "http", Host: "mirrors.invalid", Path: "/" + a.Name}
}

// hostListOf is the list of a server, as the node has it beside the repository that it is for. Hosts reach that through the
// archive's URL, which the node serves them without TLS.
func hostListOf(list aptconf.ListURL, shown front.Archive) front.List {
	name := "mirrorlist"
	if strings.Contains(list.URL.Path, "metalink") {
		name = "metalink"
	}
	at := path.Join(list.Below, name)
	root := shown.Upstream
	return front.List{URL: list.URL, Archive: shown.Name, Path: at, At: "http://" + root.Host + strings.TrimSuffix(root.EscapedPath(), "/") + "/" + at}
}

// frontLists are the lists that servers have, for hosts that ask for them through this node.
func (a *Archives) frontLists(cfg *config.Config, shown []front.Archive) []front.List {
	var all []front.List
	for i, archive := range cfg.Archives {
		for _, at := range archive.Mirrors() {
			list, err := aptconf.ParseListURL(at.URL)
			switch {
			case err != nil || list.URL == nil:
			case archive.Format == "apt":
				all = append(all, front.List{URL: list.URL, Archive: archive.Name, Text: a.lists.Text(mirrorlist.KeyOf(at))})
			case hostLists(archive.Format) != nil:
				all = append(all, hostListOf(list, shown[i]))
			}
		}
	}
	// Ubuntu's own lists, one for each country, have mirrors that this node does not know. Hosts that ask for such a
	// list get the usual URL of the archive, which leads here, too.
	for archive, names := range knownNames(cfg) {
		if ubuntu := aptconf.UbuntuArchives()[0].URLs[0]; slices.Contains(names, ubuntu) {
			all = append(all, front.List{URL: &url.URL{Scheme: "http", Host: aptconf.UbuntuLists}, Archive: archive, Text: ubuntu + "/\n"})
		}
	}
	return all
}
