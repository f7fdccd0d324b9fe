package archiveconf

import (
	_ "embed"
	"net/netip"
	"time"

	"github.com/aptmesh/aptmesh/node/upstream"
)

//go:embed keys.go
var SettingsSource string // node/config prints the comments of the keys

// Archives are the archives of a configuration, in the order of the file.
type Archives []Archive

// Archive is one archive: a tree of suites and packages, or a flat repository, on one upstream or
// on several that mirror each other.
type Archive struct {
	// Name is the key in the file and the URL prefix: http://node:3142/NAME/.
	Name string `yaml:"-" entry:"name"`
	// The format of the repository: apt, rpm or pacman.
	Format string `yaml:"format" default:"apt" check:"apt|rpm|pacman"`
	// URL of the archive: http or https, without query. A * makes it a class of archives.
	//
	// In http://ppa.launchpadcontent.net/*/*/ubuntu each * stands for one element of the path or one
	// label of the host. Each set of values is an archive of its own with the settings of the class,
	// such as NAME/deadsnakes/ppa. It is made when a host first asks for it, by its URL or its
	// name. A class that needs a private CA, a client certificate or credentials has the URL as the
	// one entry of `upstreams`. The URL may also be a mirror list, in the format of apt-transport-mirror(1): mirror+http:,
	// mirror+https: or mirror+file:/path. A list is read again every hour; the last good one is
	// kept. Lines for only some architectures, suites or types are left out, and of a long list
	// the first 32 by priority are used. Metalinks, mirror lists of dnf and pacman's mirrorlist files
	// are read as well. The path of a repository behind a # says that the list has the URLs of that repository:
	// mirror+https://mirrors.fedoraproject.org/metalink?repo=epel-9&arch=x86_64#9/Everything/x86_64.
	Upstream string `yaml:"upstream,omitempty" path:"list"`
	// In place of `upstream`: the mirrors of the archive, each a URL or the keys below.
	//
	// Fast and healthy mirrors share the requests. If a mirror fails, stalls or sends wrong bytes,
	// another one continues. A class of archives has one entry, whose URL has the *.
	Upstreams []Mirror `yaml:"upstreams,omitempty"`
	// A service that keeps what mirrors have dropped: the archive as it was at every date.
	//
	// It is asked last of all, for packages that a retained generation names, at the dates of these generations.
	// {yyyy}, {mm}, {dd}, {HH}, {MM} and {SS} in the path stand for a date in UTC:
	// https://archive.archlinux.org/repos/{yyyy}/{mm}/{dd}. A URL without them, such as
	// https://snapshot.ubuntu.com/ubuntu, gets the date as its last element: 20240301T030400Z.
	// It also has the archive as it was at a moment, for hosts that ask for /snapshot/NAME/20240301T030400Z.
	History string `yaml:"history,omitempty"`
	// true says that upstream never changes, such as a snapshot of one date.
	//
	// Once a suite is read, upstream is not asked about it again, and its Valid-Until does not count. It is so without
	// this key where all upstreams are of snapshot.ubuntu.com, snapshot.debian.org or archive.archlinux.org/repos, and
	// have a date in their URL that is more than a day old when the node reads its configuration.
	Immutable bool `yaml:"immutable,omitempty"`
	// Other URLs that mean this archive, for hosts that use apt's proxy setting.
	//
	// http or https makes no difference. "*" in the host stands for any labels, and may be one
	// label, but not the last: http://*.archive.ubuntu.com/ubuntu.
	Aliases []string `yaml:"aliases,flow,omitempty"`
	// The keyrings that sign the archive: files, directories, patterns, or armoured key blocks.
	//
	// A pattern is one such as /etc/apt/keyrings/*.gpg. In a directory or pattern, a keyring that
	// appears counts at once.
	SignedBy []string `yaml:"signed_by,omitempty" path:"keyring"`
	// true, in place of signed_by, accepts the archive without any signature.
	Unsigned bool `yaml:"unsigned,omitempty"`
	// true, in place of signed_by, trusts the certificates of its upstreams, which must all be https.
	//
	// For repositories that sign their packages and not their index, as most of RPM and pacman do: hosts
	// check the packages. In a cluster with certificates one node reads the index, and the others take
	// its word.
	TrustHTTPS bool `yaml:"trust_https,omitempty"`
	// Metalinks, in place of signed_by, that name the repomd.xml of each repository: "REPOSITORY URL".
	//
	// For repositories of RPM such as those of Fedora and EPEL. The URL must be https. In REPOSITORY, the
	// path below the archive, each * stands for one element, which the URL has as {1}, {2} and so on. The
	// first entry that fits counts. A URL alone is for every repository of the archive:
	// ["*/Everything/* https://mirrors.fedoraproject.org/metalink?repo=epel-{1}&arch={2}"].
	Metalink []string `yaml:"metalink,omitempty"`
	// PEM file of the authorities that may certify the servers of metalinks; "" for those of the system.
	MetalinkCA string `yaml:"metalink_ca,omitempty" path:"file"`
	// Suites accepted without any signature, while the others need one.
	UnsignedSuites []string `yaml:"unsigned_suites,flow,omitempty" check:"suite"`
	// false refuses signatures by DSA keys and by RSA keys of less than 2048 bits, and with SHA-1.
	//
	// apt 2.7.13 and later refuses such keys. Older apt accepts them, and so old PPAs need them. SHA-1 is
	// accepted for rpm and pacman alone, as GnuPG does: every apt refuses it, and so does dnf since Fedora 39.
	WeakKeys bool `yaml:"weak_keys" default:"true"`
	// Suites that are checked from the start, named as in sources.list.
	//
	// Others are checked from their first request on. "./" is a flat repository. A suite of pacman is the
	// path of its database: core/os/x86_64/core.db.
	Suites []string `yaml:"suites,flow,omitempty" check:"suite"`
	// How often upstream is asked for a new Release.
	CheckEvery time.Duration `yaml:"check_every" default:"1m" check:"second"`
	// How far ahead of this node's clock a Release may be dated.
	//
	// Set it to what hosts accept (Acquire::Max-FutureTime, or check-date=no). Once a Release from
	// the future is accepted, Releases with earlier dates are refused.
	MaxFuture time.Duration `yaml:"max_future" default:"10s" check:"second"`
	// How long all mirrors must show an older index until hosts get it; 0 is never.
	//
	// Left out, it is 15m for rpm and pacman, whose clients accept an older index, and 0 for apt, which
	// keeps the newer one. `aptmesh refresh --allow-older` goes back at once.
	AcceptOlder *time.Duration `yaml:"accept_older,omitempty"`
	// The most archives of a class that the node has at one time; 100 if left out.
	//
	// Beyond that, one without a Release makes room, else the one that hosts have not asked for the longest,
	// if that is an hour or more. If all are in use, hosts that ask for another one get a 503.
	MaxArchives int `yaml:"max_archives,omitempty" check:"0-10000"`
	// Credentials for the one `upstream`; they are sent to no other server.
	//
	// Every host that reaches this node can then read the archive, unless `allow` restricts it.
	Credentials upstream.Credentials `yaml:"credentials,omitempty"`
	// true asks no upstream of this archive: stored files are served.
	Offline bool `yaml:"offline,omitempty"`
	// Client networks that may read it, as 10.0.0.0/8 or an address; none: all.
	Allow []netip.Prefix `yaml:"allow,flow,omitempty"`
	// Client networks that may not. `deny` has the last word.
	Deny []netip.Prefix `yaml:"deny,flow,omitempty"`
	// It replaces both keys serve_expired… of `stale` for this archive.
	ServeExpired *time.Duration `yaml:"serve_expired,omitempty"`

	// Class is the class that the archive is a member of; "" for none.
	Class string `yaml:"-"`
	// Led says that a client chose a part of the host's name, so that the upstream is trusted as little as one that
	// a list of mirrors names.
	Led bool `yaml:"-"`
}

// Mirror is one place an archive is fetched from: a mirror, or a list of mirrors, which stands for
// all that it names.
type Mirror struct {
	// The archive's root on this mirror.
	URL string `yaml:"url" path:"list" short:"a URL"`
	// Lower is asked first; higher where those fail.
	Priority int `yaml:"priority" default:"1" check:"1-1000"`
	// Share of the requests among mirrors of equal priority.
	Weight int `yaml:"weight" default:"1" check:"1-1000"`
	// Credentials for this mirror; they are sent to no other server.
	Credentials upstream.Credentials `yaml:"credentials,omitempty"`
	// For mirrors with a certificate of a private CA, or that want one of this node.
	TLS upstream.TLSFiles `yaml:"tls,omitempty"`

	// List is the list of mirrors that names it; "" for the configuration.
	List string `yaml:"-"`
	// Led is as Archive.Led.
	Led bool `yaml:"-"`
}
