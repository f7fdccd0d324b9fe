package config

import (
	"reflect"
	"strings"
)

// key documents one key of the configuration file. This table, in reading order,
// is the one place that knows every key: the comments of `config show`, the hints
// of the loader and the plan of a reload are taken from it, and a test holds it
// against the struct.
type key struct {
	path string // "cache.max_size"; "archives.*" stands for every archive, "[]" for every item
	// live says that a reload applies a change; any other key needs a restart.
	live bool
	doc  string
}

var keys = []key{
	{"name", false, `how this node calls itself; "" is the host's name`},
	{"listen", false, `addresses of the HTTP door; ":3142" is every address, IPv4 and IPv6`},
	{"tls", false, "an additional HTTPS door"},
	{"tls.listen", false, "its addresses; none switches it off"},
	{"tls.cert", true, "PEM file of its certificate chain"},
	{"tls.key", true, "PEM file of its private key"},
	{"public_url", true, `URL that hosts reach this node at, such as "http://cache.example.org:3142", for the settings printed for them; "" is the machine's name and port`},
	{"admin", false, `status, metrics, profiles and the client commands: "host:port" or "unix:/path"; TCP takes changes only with the token`},
	{"admin_token_file", false, "file with the token that allows changes over TCP, and an address other than loopback"},
	{"ready_listen", false, "address that serves /ready and /health alone, for load balancers"},
	{"data", false, "directory of the cache, which can be fetched again"},
	{"state", false, "directory of durable state, which cannot"},
	{"cache", false, "what is kept"},
	{"cache.max_size", false, "cap on disk: a size, or a share of the file system"},
	{"cache.memory", false, "cap in memory, for small hot objects"},
	{"cache.scrub", false, "bytes per second re-read to find damage; 0 is off"},
	{"offline", true, "true asks no upstream at all: what is held is served"},
	{"archives", true, "the archives served; the name is the URL prefix"},
	{"archives.*", true, ""},
	{"archives.*.upstream", true, "URL of the archive"},
	{"archives.*.upstreams", true, "its mirrors, each a URL or keys as below; mirror+http:, mirror+https: and mirror+file: are lists of mirrors"},
	{"archives.*.upstreams[].url", true, "the archive's root on this mirror"},
	{"archives.*.upstreams[].priority", true, "lower is asked first; higher where those fail"},
	{"archives.*.upstreams[].weight", true, "share among equals"},
	{"archives.*.upstreams[].credentials", true, "sent to this mirror only"},
	{"archives.*.upstreams[].credentials.user", true, "name for HTTP basic authentication"},
	{"archives.*.upstreams[].credentials.password", true, "its password"},
	{"archives.*.upstreams[].credentials.password_file", true, "file that holds the password"},
	{"archives.*.upstreams[].credentials.bearer", true, "bearer token, instead of user and password"},
	{"archives.*.upstreams[].credentials.bearer_file", true, "file that holds the token"},
	{"archives.*.upstreams[].tls", true, "for private CAs and client certificates"},
	{"archives.*.upstreams[].tls.ca", true, "PEM file of the CAs to trust instead of the machine's"},
	{"archives.*.upstreams[].tls.cert", true, "PEM file of the certificate this node shows"},
	{"archives.*.upstreams[].tls.key", true, "PEM file of its private key"},
	{"archives.*.snapshot", true, "service that keeps what mirrors have dropped, with {timestamp} in its path"},
	{"archives.*.aliases", true, `other URLs that mean it; the host may begin with "*."`},
	{"archives.*.signed_by", true, "keyrings that vouch for it: files, directories, patterns such as /etc/apt/keyrings/*.gpg, or armoured key blocks"},
	{"archives.*.unsigned", true, "true accepts it without any signature"},
	{"archives.*.unsigned_suites", true, "suites accepted without any signature, the others not"},
	{"archives.*.weak_keys", true, "false refuses signatures by DSA and short RSA keys, as apt 2.7.13 and later do; older apt accepts them"},
	{"archives.*.suites", true, "watched from the start; others from their first request on"},
	{"archives.*.check_every", true, "interval of looking for a new Release"},
	{"archives.*.max_future", true, "a Release may be dated so far ahead, as in the hosts' Acquire::Max-FutureTime"},
	{"archives.*.credentials", true, "sent to this upstream only; whoever reaches this node can read the archive"},
	{"archives.*.credentials.user", true, "name for HTTP basic authentication"},
	{"archives.*.credentials.password", true, "its password"},
	{"archives.*.credentials.password_file", true, "file that holds the password"},
	{"archives.*.credentials.bearer", true, "bearer token, instead of user and password"},
	{"archives.*.credentials.bearer_file", true, "file that holds the token"},
	{"archives.*.offline", true, "true asks no upstream of it: what is held is served"},
	{"archives.*.allow", true, "client networks that may read it; none: all"},
	{"archives.*.deny", true, "client networks that may not"},
	{"archives.*.serve_expired", true, "in place of both serve_expired of stale; null: those"},
	{"upstream_client", true, "how archives are asked"},
	{"upstream_client.connections_per_host", true, "cap on connections to one upstream host"},
	{"upstream_client.rate", true, "cap on bytes per second from all upstreams; 0 is none"},
	{"upstream_client.rate_floor", true, "bytes per second below which a transfer goes on from another mirror; 0 is off"},
	{"upstream_client.internal_allow", true, "private networks that redirects and lists of mirrors may lead to"},
	{"upstream_client.proxy", true, `parent proxy; "" follows http_proxy and its kin, "direct" uses none`},
	{"upstream_client.stall_timeout", true, "gives up on a body that stops flowing"},
	{"upstream_client.header_timeout", true, "gives up waiting for an answer to begin"},
	{"upstream_client.connect_timeout", true, "gives up waiting for a connection"},
	{"upstream_client.auth_conf", true, "files in the format of apt_auth.conf(5); a missing one counts as empty"},
	{"stale", false, "when no upstream answers"},
	{"stale.serve_expired", false, "past a Release's Valid-Until it is served for so long"},
	{"stale.serve_expired_security", false, "the same for suites that carry security updates"},
	{"stale.warn_before", false, "alarm so long before Valid-Until passes unrenewed"},
	{"prefetch", true, "new versions of the packages in use here, fetched when they are published"},
	{"prefetch.enabled", true, "false fetches nothing ahead"},
	{"prefetch.max_bytes", true, "cap for one publication"},
	{"prefetch.used_within", true, "a package counts as in use so long after a host took it"},
	{"clients", true, "who may come in at the door, and how much each address may take"},
	{"clients.allow", true, "networks that may; none: all"},
	{"clients.deny", true, "networks that may not"},
	{"clients.connections", true, "cap on connections of one address; 0 is none"},
	{"clients.rate", true, "cap on bytes per second to one address; 0 is none"},
	{"connect_allow", true, `"host:port", "*.domain:port" or "*:port" that clients may reach by CONNECT; passed through, not cached`},
	{"cluster", false, "several nodes that act as one cache"},
	{"cluster.name", false, `keeps clusters apart; "" has this node stand alone`},
	{"cluster.datacenter", false, `a label for status; "" is the node's name`},
	{"cluster.gossip_listen", false, "address of gossip, UDP and TCP"},
	{"cluster.peer_listen", false, "address the other nodes fetch from, TCP"},
	{"cluster.advertise", false, `host or IP the others reach this node at; "" picks one`},
	{"cluster.seeds", false, `other nodes to join through, "host" or "host:port"; names are looked up again and again`},
	{"cluster.gossip_key", true, "file with one base64 key (32 bytes) per line; the first encrypts, all decrypt"},
	{"cluster.ca", true, "PEM file of who signs the nodes' certificates"},
	{"cluster.cert", true, "PEM file of this node's certificate; its DNS name is the node's name"},
	{"cluster.key", true, "PEM file of its private key"},
	{"cluster.allow", false, "networks that may gossip, as 10.0.0.0/8; none: whoever has the key"},
	{"cluster.insecure", false, "true runs without keys and certificates: whoever reaches the ports is trusted"},
	{"retain", false, "how long superseded generations of a suite stay readable"},
	{"retain.for", false, "age"},
	{"retain.generations", false, "number per suite"},
	{"log", true, "what is logged"},
	{"log.level", true, "debug, info, warn or error"},
	{"log.format", false, "text or json"},
	{"log.access", false, "one line per request"},
	{"drain", true, "how the node stops"},
	{"drain.delay", true, `answer "not ready" for so long before closing the door`},
	{"drain.handoff", true, "then, in a cluster, give the others what only this node holds, for so long at most"},
	{"drain.timeout", true, "then let running requests finish for so long"},
}

// isSection reports whether a field holds further keys; some values are structs as well.
func isSection(v reflect.Value) bool {
	switch v.Type() {
	case reflect.TypeFor[SizeLimit](), reflect.TypeFor[Secret]():
		return false
	}
	return v.Kind() == reflect.Struct
}

// lookupKey finds the row of a path; the name of an archive in it is a "*".
func lookupKey(path string) (key, bool) {
	for _, k := range keys {
		if k.path == path {
			return k, true
		}
	}
	return key{}, false
}

// keyDoc is the one-line meaning of a key; "" where it needs none.
func keyDoc(path string) string {
	k, _ := lookupKey(path)
	return k.doc
}

// sectionsWith says where a key of that name belongs, for the hint that one stands
// in the wrong place.
func sectionsWith(name string) []string {
	var sections []string
	for _, k := range keys {
		switch parent, leaf := splitKey(k.path); {
		case leaf != name || name == "*":
		case parent == "":
			sections = append(sections, "at the top of the file")
		default:
			sections = append(sections, "in `"+strings.ReplaceAll(parent, "*", "NAME")+"`")
		}
	}
	return sections
}

// parentKey is the section a key stands in, or the list an item stands in; "" at
// the top.
func parentKey(path string) string {
	if i := strings.LastIndexByte(path, '['); i >= 0 && strings.HasSuffix(path, "]") {
		return path[:i]
	}
	parent, _ := splitKey(path)
	return parent
}

// splitKey splits a path at its last dot that is not inside quotes.
func splitKey(path string) (parent, leaf string) {
	quoted := false
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i] {
		case '"':
			quoted = !quoted
		case '.':
			if !quoted {
				return path[:i], path[i+1:]
			}
		}
	}
	return "", path
}
