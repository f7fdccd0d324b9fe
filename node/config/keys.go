package config

import (
	"net/netip"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// The keys of the configuration file, each written once. A field's tags are its name in the file
// (yaml), its default, and what a value must be (check); reload:"no" has a change wait for a
// restart, and holds for all keys of a section. A field's comment is its documentation for
// operators: the first paragraph where a line must do, all of it in the reference. table.go
// reads both, and the whole reference is generated from them (`make docs`).

// Config is the configuration of one node: what the YAML file says, with the defaults in place of
// what it leaves out. It is a plain value; Load and Auto make checked ones. Every path in it is
// absolute, or relative to the working directory.
type Config struct {
	// The name of this node; "" is the host's name.
	//
	// In a cluster it must be the name in the node's certificate, and no other node's.
	Name string `yaml:"name" reload:"no"`
	// Addresses of the HTTP listener. ":3142" is every address of the machine, IPv4 and IPv6.
	Listen []string `yaml:"listen,flow" default:":3142" check:"listen" reload:"no"`
	// An additional HTTPS listener; with no address there is none.
	TLS TLS `yaml:"tls"`
	// URL at which hosts reach this node, for the settings that are printed for them.
	//
	// "" is the machine's name and port. Set it in a container, or where hosts use another name:
	// http://cache.example.org:3142.
	PublicURL string `yaml:"public_url"`
	// The admin interface and its address for load balancers.
	Admin admin.Settings `yaml:",inline"`
	// Directory of the cache, which can be fetched again.
	//
	// Left out, it is /var/cache/aptmesh where the node may write there, else the user's cache
	// directory.
	Data string `yaml:"data" default:"/var/cache/aptmesh" path:"dir" reload:"no"`
	// Directory of the durable state, which cannot be fetched again.
	//
	// It holds a few megabytes: which Release of each suite is the newest, which packages hosts
	// use, the last good lists of mirrors. Left out, it is inside `data` where that is given, else
	// /var/lib/aptmesh where the node may write there, else the user's directory of state
	// ($XDG_STATE_HOME). A directory that a newer version has written is refused.
	State string `yaml:"state" path:"dir" reload:"no"`
	// StateGiven says that the configuration file names State, so that another Data does not
	// change it.
	StateGiven bool `yaml:"-"`
	// Bounds of the cache.
	Cache blobstore.Settings `yaml:"cache" reload:"no"`
	// true asks no upstream at all: stored files are served.
	//
	// Whatever is not stored is answered with 503 and a line that says so.
	Offline bool `yaml:"offline"`
	// The archives that are served, by name; aptmesh is no open proxy.
	//
	// The name is the URL prefix: http://node:3142/NAME/. Left out altogether, the archives are
	// those that this machine's own apt uses. A reload refuses a file without the key if the node
	// runs with one that has it. All nodes of a cluster need the same archives.
	Archives Archives `yaml:"archives"`
	// FromMachine says that the archives are those of this machine's own apt.
	FromMachine bool `yaml:"-"`
	// Classes are the classes of archives in a configuration that has them apart from Archives, as
	// node/archives makes it.
	Classes Archives `yaml:"-"`
	// The HTTP client that asks the archives.
	UpstreamClient upstream.Settings `yaml:"upstream_client"`
	// How long stored files are served while no upstream answers.
	//
	// A line in the log, a metric and `aptmesh status` say that they are stale.
	Stale catalog.Stale `yaml:"stale" reload:"no"`
	// Packages that are fetched before a host asks for them.
	//
	// When an archive publishes, the new versions of the packages that hosts take from this node
	// are fetched. Everything that a host waits for goes first.
	Prefetch prefetch.Settings `yaml:"prefetch"`
	// Which hosts may connect, and how much each address may take.
	//
	// The bounds are for each client address, and a site behind NAT is one address.
	Clients front.ClientLimits `yaml:"clients"`
	// Targets that hosts may reach by CONNECT, or by plain http: "host:port", "*.domain:port" or "*:port".
	//
	// Such traffic passes through unchecked and is not cached. The default is what `apt changelog` and
	// do-release-upgrade use. A target that only a pattern allows must have a public address.
	ConnectAllow []string `yaml:"connect_allow,flow" default:"[changelogs.ubuntu.com:443, changelogs.ubuntu.com:80, metadata.ftp-master.debian.org:443, metadata.ftp-master.debian.org:80]"`
	// Several nodes that act as one cache.
	//
	// All nodes together fetch each file from upstream once. `aptmesh cluster init` writes this
	// section for every node, with the files that it names.
	Cluster Cluster `yaml:"cluster" reload:"no"`
	// How long superseded generations of a suite stay readable.
	//
	// Hosts that have the old lists still ask for the files in them.
	Retain catalog.Retain `yaml:"retain" reload:"no"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// How the node stops, on SIGTERM and for `aptmesh leave`.
	Drain Drain `yaml:"drain"`
}

// TLS is the HTTPS listener. Listen empty means that there is none.
type TLS struct {
	// Addresses of the HTTPS listener; none switches it off.
	Listen []string `yaml:"listen,flow" check:"listen" reload:"no"`
	// PEM file of the certificate chain. It is read again on reload.
	Cert string `yaml:"cert" path:"file"`
	// PEM file of the private key.
	Key string `yaml:"key" path:"file"`
}

// Archive is one archive: a tree of suites and packages, or a flat repository, on one upstream or
// on several that mirror each other.
type Archive struct {
	// Name is the key in the file and the URL prefix: http://node:3142/NAME/.
	Name string `yaml:"-"`
	// The format of the repository: apt, rpm or pacman.
	Format string `yaml:"format" default:"apt" check:"apt|rpm|pacman"`
	// URL of the archive: http or https, without query. A * makes it a class of archives.
	//
	// In http://ppa.launchpadcontent.net/*/*/ubuntu each * stands for one element of the path or one
	// label of the host. Each set of values is an archive of its own with the settings of the class,
	// such as NAME/deadsnakes/ppa. It is made when a host first asks for it, by its URL or its
	// name. The URL may also be a mirror list, in the format of apt-transport-mirror(1): mirror+http:,
	// mirror+https: or mirror+file:/path. A list is read again every hour; the last good one is
	// kept. Lines for only some architectures, suites or types are left out, and of a long list
	// the first 32 by priority are used.
	Upstream string `yaml:"upstream,omitempty" path:"list"`
	// In place of `upstream`: the mirrors of the archive, each a URL or the keys below.
	//
	// Fast and healthy mirrors share the requests. If a mirror fails, stalls or sends wrong bytes,
	// another one continues.
	Upstreams []Mirror `yaml:"upstreams,omitempty"`
	// A service that keeps what mirrors have dropped, with {timestamp} in its path.
	//
	// It is asked last of all for packages that a retained generation names:
	// https://snapshot.ubuntu.com/ubuntu/{timestamp}.
	Snapshot string `yaml:"snapshot,omitempty"`
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
	// false refuses signatures by DSA keys and by RSA keys of less than 2048 bits.
	//
	// apt 2.7.13 and later refuses them. Older apt accepts them, and so old PPAs need them.
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
	Credentials Credentials `yaml:"credentials,omitempty"`
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
	URL string `yaml:"url" path:"list"`
	// Lower is asked first; higher where those fail.
	Priority int `yaml:"priority" default:"1" check:"1-1000"`
	// Share of the requests among mirrors of equal priority.
	Weight int `yaml:"weight" default:"1" check:"1-1000"`
	// Credentials for this mirror; they are sent to no other server.
	Credentials Credentials `yaml:"credentials,omitempty"`
	// For mirrors with a certificate of a private CA, or that want one of this node.
	TLS upstream.TLSFiles `yaml:"tls,omitempty"`

	// List is the list of mirrors that names it; "" for the configuration.
	List string `yaml:"-"`
	// Led is as Archive.Led.
	Led bool `yaml:"-"`
}

// Cluster makes a node one of several that act as one cache. With Name "" the node stands alone
// and the rest means nothing.
type Cluster struct {
	// Keeps clusters apart; "" has this node stand alone.
	Name string `yaml:"name" check:"label"`
	// A label for `aptmesh status`; "" is the node's name.
	Datacenter string `yaml:"datacenter" check:"label"`
	// Address of gossip with the other nodes, UDP and TCP.
	GossipListen string `yaml:"gossip_listen" default:":7946" check:"listen"`
	// Address from which the other nodes fetch, TCP.
	PeerListen string `yaml:"peer_listen" default:":3143" check:"listen"`
	// Host or IP address at which the others reach this node; "" picks one of the machine's.
	//
	// The ports are those of gossip_listen and peer_listen.
	Advertise string `yaml:"advertise" check:"host"`
	// Other nodes to join through, "host" or "host:port"; one that answers is enough.
	//
	// Names are looked up again and again, so one name with all addresses is enough. The node
	// itself may be among the seeds.
	Seeds []string `yaml:"seeds,flow" check:"seed"`
	// File with one base64 key of 32 bytes per line; the first encrypts, all decrypt.
	GossipKey string `yaml:"gossip_key" path:"file" reload:"yes"`
	// PEM file of the authority that signs the nodes' certificates.
	CA string `yaml:"ca" path:"file" reload:"yes"`
	// PEM file of this node's certificate; its DNS name is the node's name.
	Cert string `yaml:"cert" path:"file" reload:"yes"`
	// PEM file of its private key.
	//
	// Changed files are read without a reload.
	Key string `yaml:"key" path:"file" reload:"yes"`
	// Networks that may gossip, as 10.0.0.0/8 or an address; none: every holder of the key.
	Allow []netip.Prefix `yaml:"allow,flow"`
	// true runs without the four files: every machine that reaches the ports is trusted.
	Insecure bool `yaml:"insecure"`
}

// Log says what is logged, and how.
type Log struct {
	// debug, info, warn or error.
	Level string `yaml:"level" default:"info" check:"debug|info|warn|error"`
	// text or json.
	Format string `yaml:"format" default:"text" check:"text|json" reload:"no"`
	// One line per request.
	Access bool `yaml:"access" default:"true" reload:"no"`
}

// Drain says how the node stops.
type Drain struct {
	// How long the node says "not ready" before it closes its listeners.
	//
	// In this time a load balancer or an anycast route stops sending hosts here.
	Delay time.Duration `yaml:"delay" default:"0s"`
	// Then, in a cluster: how long it may hand its last copies to the other nodes.
	Handoff time.Duration `yaml:"handoff" default:"30s"`
	// Then: how long running requests may take to finish.
	Timeout time.Duration `yaml:"timeout" default:"30s"`
}
