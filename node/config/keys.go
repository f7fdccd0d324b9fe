package config

import (
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster/clusterconf"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// The keys of the configuration file, each written once, here or in the room that uses it: package
// node/config/keys says how. The whole reference is generated from them (`make docs`).

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
	// Whatever is not stored is answered with 503 and a line that says so. In a cluster, nodes that are not
	// offline fetch for one that is.
	Offline bool `yaml:"offline"`
	// The archives that are served, by name; aptmesh is no open proxy.
	//
	// The name is the URL prefix: http://node:3142/NAME/. Left out altogether, the archives are
	// those that this machine's own apt uses. A reload refuses a file without the key if the node
	// runs with one that has it. All nodes of a cluster need the same archives.
	Archives archiveconf.Archives `yaml:"archives"`
	// FromMachine says that the archives are those of this machine's own apt.
	FromMachine bool `yaml:"-"`
	// Classes are the classes of archives in a configuration that has them apart from Archives, as
	// node/archives makes it.
	Classes archiveconf.Archives `yaml:"-"`
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
	ConnectAllow []string `yaml:"connect_allow,flow" default:"[changelogs.ubuntu.com:443, changelogs.ubuntu.com:80, metadata.ftp-master.debian.org:443, metadata.ftp-master.debian.org:80]" check:"connect"`
	// Several nodes that act as one cache.
	//
	// All nodes together fetch each file from upstream once. `aptmesh cluster init` writes this
	// section for every node, with the files that it names.
	Cluster clusterconf.Settings `yaml:"cluster" reload:"no"`
	// Snapshots that are taken by themselves, and how much all of them may hold.
	Snapshots Snapshots `yaml:"snapshots"`
	// Mirrors, by name: suites of which every file is held, before a host asks for it.
	//
	// `aptmesh mirror plan NAME` says what one will take. All nodes of a cluster need the same mirrors.
	Mirrors holdconf.Mirrors `yaml:"mirrors,omitempty"`
	// How long superseded generations of a suite stay readable.
	//
	// Hosts that have the old lists still ask for the files in them.
	Retain catalog.Retain `yaml:"retain" reload:"no"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// How the node stops, on SIGTERM and for `aptmesh leave`.
	Drain Drain `yaml:"drain"`
}

// Snapshots is about snapshots as a whole; operators take them.
type Snapshots struct {
	holdconf.Settings `yaml:",inline"`
	Schedule          snapshotconf.Settings `yaml:",inline"`
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
