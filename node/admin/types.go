package admin

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What the admin interface says, as JSON. Paths below its address:
//
//	GET  /v1/status                  Status
//	GET  /v1/why?url=URL             Why; also of "CONNECT host:port"
//	GET  /v1/refused                 []RefusedURL, most requests first
//	POST /v1/refresh?suite=ARCHIVE/DIR   RefreshResult; &older=1 takes an older Release, too
//	POST /v1/drop?suite=ARCHIVE/DIR  DropResult: the node forgets the suite
//	POST /v1/remove?node=NAME        RemoveResult: a missing node is forgotten by all nodes
//	GET  /v1/snapshots               []Snapshot; ?name=NAME for one
//	POST /v1/snapshots?name=NAME     SnapshotResult: archives are captured as they are now;
//	                                 &archive=NAME&suite=PATTERN, each as often as needed; &note=TEXT&by=OPERATOR&at=RFC3339
//	POST /v1/snapshots/remove?name=NAME&by=OPERATOR   Done
//	GET  /v1/channels                []Channel
//	POST /v1/channels?name=NAME&target=ID&by=OPERATOR   ChannelMove; &live=PATTERN as often as needed, or
//	                                 once empty, replaces the suites that stay live; &now=true does not wait
//	POST /v1/channels/promote?from=NAME&name=NAME&by=OPERATOR   ChannelMove: to what the other stands for; live, now
//	POST /v1/channels/rollback?name=NAME&by=OPERATOR    ChannelMove: to where it was; now
//	POST /v1/channels/remove?name=NAME&by=OPERATOR      Done
//	GET  /v1/hosts?id=ID             []proto.HostArchive: what hosts need to use a snapshot, a channel, or live;
//	                                 &archive=NAME&suite=PATTERN, each as often as needed
//	POST /v1/snapshots/files?name=NAME[&all=1&beside=1]   the files of a snapshot, a JSON value a line: ExportHead,
//	                                 SnapshotFile …, ExportEnd
//	POST /v1/snapshots/file?name=NAME&archive=NAME&path=PATH&sha256=SUM   the bytes of one of them
//	POST /v1/imports                 ImportBegun; the body is a tar of "record" and the root files, by their SHA-256
//	POST /v1/imports/lacking?import=ID   []int; the body is a []NamedFile
//	POST /v1/imports/file?import=ID&archive=NAME&path=PATH&sha256=SUM&size=BYTES   Done; the body is the file
//	POST /v1/imports/finish?import=ID&name=NAME&by=OPERATOR   SnapshotResult
//	POST /v1/leave                   LeaveResult, at once: the node drains, leaves its cluster and ends
//
// Any answer of these but 200 carries an Error.
const (
	statusPath  = "/v1/status"
	whyPath     = "/v1/why"
	refusedPath = "/v1/refused"
	refreshPath = "/v1/refresh"
	dropPath    = "/v1/drop"
	removePath  = "/v1/remove"
	leavePath   = "/v1/leave"

	snapshotsPath = "/v1/snapshots"
	channelsPath  = "/v1/channels"
	mirrorsPath   = "/v1/mirrors"
	planSuffix    = "/plan"
	runSuffix     = "/run"
	verifySuffix  = "/verify"
	hostsPath     = "/v1/hosts"
	importsPath   = "/v1/imports"
)

// The ends of the paths that do something else than add or set.
const (
	removeSuffix   = "/remove"
	promoteSuffix  = "/promote"
	rollbackSuffix = "/rollback"
)

// Error is the body of an answer that is not 200.
type Error struct {
	Message string `json:"error"` // one sentence
	// Socket is where the same request may be taken, if it is refused only because
	// it came over TCP.
	Socket string `json:"socket,omitempty"`
	// Refused says that trying again does not help.
	Refused bool `json:"refused,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Status is the state of a node.
type Status struct {
	Version string `json:"version"`
	Node    string `json:"node"` // its name
	// UptimeSeconds is the time since the node began to serve.
	UptimeSeconds int64 `json:"uptime_seconds"`
	// Ready is the answer to health checks; false while starting and draining.
	Ready bool `json:"ready"`
	// Stopping says in one sentence what a node that drains does just now; "" while
	// it runs.
	Stopping string `json:"stopping,omitempty"`
	// ReloadFailed says why the latest reload of the configuration failed; "" if it did not.
	ReloadFailed string `json:"reload_failed,omitempty"`
	// NeedsRestart are the keys whose changes wait for a restart.
	NeedsRestart []string `json:"needs_restart,omitempty"`
	// Addresses are those of the listeners, with the real ports: the plain
	// addresses in the order of the configuration, then those of TLS.
	Addresses []string `json:"addresses"`
	// Degraded says in one sentence what does not work as it should; "" if all does.
	Degraded string `json:"degraded,omitempty"`
	// Notes say what is not as it should be, what is failing first. Level is the worst
	// of them.
	Level Level  `json:"level"`
	Notes []Note `json:"notes"`
	// Offline says that no upstream is asked, by `offline: true`.
	Offline   bool             `json:"offline,omitempty"`
	Store     StoreStatus      `json:"store"`
	Archives  []ArchiveStatus  `json:"archives"`
	Classes   []ClassStatus    `json:"classes,omitempty"`
	Upstreams []UpstreamStatus `json:"upstreams"`
	Flights   []FlightStatus   `json:"flights"`
	Traffic   TrafficStatus    `json:"traffic"`
	Prefetch  PrefetchStatus   `json:"prefetch"`
	// Holds are mirrors and snapshots of which this node could not hold its share in the last attempt.
	Holds []HoldTrouble `json:"holds,omitempty"`
	// Snapshots are how snapshots and channels do.
	Snapshots SnapshotsStatus `json:"snapshots"`
	// Cluster is nil where the node stands alone.
	Cluster *ClusterStatus `json:"cluster,omitempty"`
}

// ClusterStatus is a cluster as one of its nodes sees it.
type ClusterStatus struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"` // of the node asked
	Self       string `json:"self"`       // the node asked; it is among Members
	// RingHash identifies the ring that this node sees: 16 hexadecimal digits.
	// RingVersion is that of the algorithm.
	RingHash    string `json:"ring_hash"`
	RingVersion int    `json:"ring_version"`
	// Secured is false where the nodes run without keys and certificates.
	Secured bool `json:"secured"`
	// CertificateExpires is the end of this node's own; zero where it has none.
	CertificateExpires time.Time `json:"certificate_expires,omitzero"`
	// Members are all nodes known, by name; those that are missing, too.
	Members []MemberStatus `json:"members"`
	// Alone says why no other node could be reached, a sentence for each that was tried.
	// It is empty while another node is there, and where the node was given none to
	// look for.
	Alone []string `json:"alone,omitempty"`
	// Vacated are addresses that cluster.seeds names of nodes that left or were removed, while this
	// node is alone.
	Vacated []string `json:"vacated_seeds,omitempty"`
	// Strangers speak gossip that cannot be read here: nodes with another key or of
	// another cluster.
	Strangers []Stranger `json:"strangers,omitempty"`
	// Claims are the names that two nodes use.
	Claims []Claim `json:"claims,omitempty"`
	// UpstreamBytes is what all members that reported fetched from upstream, and
	// UpstreamBytesSaved what they received from each other instead, since each
	// began.
	UpstreamBytes      int64 `json:"upstream_bytes"`
	UpstreamBytesSaved int64 `json:"upstream_bytes_saved"`
}

// The states of a member, as it announces them.
const (
	MemberJoining = "joining" // it is served, and owns nothing yet
	MemberActive  = "active"
	MemberLeaving = "leaving" // it serves, and owns nothing any more
	MemberMissing = "missing" // it vanished, and is looked for until an operator removes it
)

// The health of a member, as the node asked finds it.
const (
	HealthOK          = "ok"
	HealthUnreachable = "unreachable" // calls fail; others are asked in its place
	HealthStalled     = "stalled"     // it answers and gives no bytes; others are asked in its place
	HealthQuarantined = "quarantined" // it sent wrong bytes; nothing is taken from it for a while
)

// Stranger is a machine that is kept out of the cluster.
type Stranger struct {
	Address string    `json:"address"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Claim is a name that two nodes use: the node at Known is a member of the cluster, and the node at Other is kept out.
type Claim struct {
	Name  string    `json:"name"`
	Known string    `json:"known"`
	Other string    `json:"other"`
	At    time.Time `json:"at"`
	// Undecided says that each of the two nodes keeps the other out, and no third node says which is a member.
	Undecided bool `json:"undecided,omitempty"`
}

// MemberStatus is one node of a cluster. What only that node can know is there
// where Reported says so.
type MemberStatus struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"`
	Address    string `json:"address"` // host:port it is fetched from
	Version    string `json:"version"` // of aptmesh, as `aptmesh version` has it
	State      string `json:"state"`
	Health     string `json:"health"`
	// Why is the reason of a Health that is not ok.
	Why string `json:"why,omitempty"`
	// MissingSince is when a missing member was last there.
	MissingSince time.Time `json:"missing_since,omitzero"`
	// RTTMillis is the round trip from the node asked; 0 if unknown, and for that node
	// itself.
	RTTMillis float64 `json:"rtt_ms"`
	// RingShare is the part of all objects that the member owns, 0 to 1.
	RingShare float64 `json:"ring_share"`
	// RingAgrees says that the member places objects as the node asked does;
	// true where that is not known.
	RingAgrees bool `json:"ring_agrees"`
	// GossipSilent is the alarm that no gossip of the member arrives although it
	// lives: most often UDP is blocked on the way.
	GossipSilent bool `json:"gossip_silent,omitempty"`
	// BytesFrom and BytesTo are what the node asked received from the member and
	// sent to it, since it began.
	BytesFrom int64 `json:"bytes_from"`
	BytesTo   int64 `json:"bytes_to"`

	// Reported says that the member itself reported just now. The fields below are from
	// this report, and zero without one.
	Reported bool `json:"reported"`
	// Level is how the member judges itself, and Note the first of its notes, cut short.
	// What it sees of other members does not count.
	Level Level  `json:"level,omitempty"`
	Note  string `json:"note,omitempty"`
	// Stored and StoredBytes count the objects in its store.
	Stored      int64 `json:"stored"`
	StoredBytes int64 `json:"stored_bytes"`
	// UpstreamBytes is what it fetched from upstream since it began, PeerBytes what
	// it received from other nodes instead.
	UpstreamBytes int64 `json:"upstream_bytes"`
	PeerBytes     int64 `json:"peer_bytes"`
	// Suites are all suites it knows.
	Suites []MemberSuite `json:"suites"`
	// Configuration stands for what must be the same on all nodes: by key, a value or
	// a digest of it.
	Configuration map[string]string `json:"configuration,omitempty"`
}

// MemberSuite is the generation of one suite that a member serves.
type MemberSuite struct {
	Suite      string       `json:"suite"`               // ARCHIVE/DIR
	Generation time.Time    `json:"generation,omitzero"` // its signed date; zero for none
	Root       proto.Digest `json:"root"`
	State      string       `json:"state"` // as in SuiteStatus
}

// StoreStatus is the state of the store; all sizes in bytes.
type StoreStatus struct {
	Dir         string `json:"dir"`
	Used        int64  `json:"used"`
	Reserved    int64  `json:"reserved"` // promised to bodies that are arriving
	Max         int64  `json:"max"`
	Blobs       int64  `json:"blobs"`
	Pinned      int64  `json:"pinned"` // bytes that are never evicted
	Evictions   int64  `json:"evictions"`
	Damaged     int64  `json:"damaged"` // blobs found wrong and dropped
	ScanPending bool   `json:"scan_pending,omitempty"`
	Degraded    string `json:"degraded,omitempty"`
}

// ArchiveStatus is one archive and the suites known of it.
type ArchiveStatus struct {
	Name     string        `json:"name"`
	Class    string        `json:"class,omitempty"` // the class that it is of: it was made because a host asked for it
	Upstream string        `json:"upstream"`
	Offline  bool          `json:"offline,omitempty"` // nobody is asked for it, by `offline: true`
	Suites   []SuiteStatus `json:"suites"`
	// Mirrors are its mirrors, in the order of the configuration, its history service
	// last; empty while its only list of mirrors cannot be fetched.
	Mirrors []MirrorStatus `json:"mirrors"`
	// Errors are what hosts got of it in the last minutes that was an error of upstream or of this
	// node, by reason.
	Errors []ArchiveErrors `json:"errors"`
}

// ClassStatus is a class of archives. Those that hosts have asked for are among the archives.
type ClassStatus struct {
	Name     string `json:"name"`
	Upstream string `json:"upstream"` // the pattern
	Archives int    `json:"archives"` // how many there are of it
}

// ArchiveErrors are answers of one archive that were errors of one reason. They are forgotten five
// minutes after the last one.
type ArchiveErrors struct {
	Reason string    `json:"reason"` // see docs/errors.md
	Count  int64     `json:"count"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	URL    string    `json:"url"`  // what the last one was asked for, as the host wrote it
	Text   string    `json:"text"` // the sentence
}

// The states of the circuit breaker of a mirror.
const (
	MirrorClosed   = "closed"    // it is asked
	MirrorOpen     = "open"      // it is left alone until MirrorStatus.Until
	MirrorHalfOpen = "half_open" // the next request finds out whether it is well again
)

// MirrorStatus is one mirror of an archive.
type MirrorStatus struct {
	URL      string `json:"url"` // of its root, without credentials; as the access log names it
	Archive  string `json:"-"`
	Priority int    `json:"priority"`
	Weight   int    `json:"weight"`
	// History says that it is the archive's history service: it is asked only for
	// what all mirrors have dropped.
	History bool   `json:"history,omitempty"`
	State   string `json:"state"` // MirrorClosed, MirrorOpen or MirrorHalfOpen
	// Alert is why no requests go to it now: "asked_to_wait",
	// "unreachable", "errors" or "wrong_content". Reason is a sentence about it. FoundBy
	// names the node that found it, if that is another node. Until is when the breaker
	// becomes half-open.
	Alert   string    `json:"alert,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	FoundBy string    `json:"found_by,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	// LastError is why the latest request failed, at LastFail, if none that began later was answered well.
	LastError string    `json:"last_error,omitempty"`
	LastFail  time.Time `json:"last_error_at,omitzero"`
	// BytesPerSecond is what one transfer gets while it reads, HeaderSeconds the wait
	// for the header of an answer; both averages, and 0 where nothing was measured
	// lately.
	BytesPerSecond float64 `json:"bytes_per_second"`
	HeaderSeconds  float64 `json:"header_seconds"`
	// Penalties is how many objects this mirror has a penalty for now: other mirrors are asked for
	// those first.
	Penalties int `json:"penalties"`
	// Failovers counts the requests that this mirror failed, by reason: "asked_to_wait",
	// "unreachable", "errors", "wrong_content", "not_found", "refused", "broke_off", "slow".
	Failovers map[string]int64 `json:"failovers,omitempty"`
}

// MirrorBehind is a mirror whose Release of a suite is older than that of another mirror.
// It is asked for files that never change, and for the Release only now and then.
type MirrorBehind struct {
	URL           string    `json:"url"`
	Generation    time.Time `json:"generation,omitzero"` // the date of its Release
	BehindSeconds float64   `json:"behind_seconds"`
}

// PrefetchStatus is what is fetched before anybody asks.
type PrefetchStatus struct {
	Enabled bool `json:"enabled"`
	// Packages is how many packages clients are known to use.
	Packages int `json:"packages"`
	// Objects counts what new generations gave reason to fetch, by outcome: "fetched",
	// "stored", "failed", "over_limit", "dropped".
	Objects map[string]int64 `json:"objects"`
	Bytes   int64            `json:"bytes"` // fetched ahead
	// Used counts the objects that a client asked for afterwards.
	Used      int64 `json:"used"`
	UsedBytes int64 `json:"used_bytes"`
}

// The states of a suite.
const (
	SuiteFresh   = "fresh"   // upstream was asked lately and has nothing newer
	SuiteFrozen  = "frozen"  // upstream never changes, and is not asked any more
	SuiteStale   = "stale"   // upstream was not asked for longer than it should
	SuiteFailing = "failing" // the last check failed; Error says why
)

// SuiteStatus is what a node believes of one suite.
type SuiteStatus struct {
	Dir string `json:"dir"` // "dists/noble"; "" is the archive's own directory
	// Generation is the signed date of the current one, zero before the first.
	Generation time.Time    `json:"generation,omitzero"`
	Root       proto.Digest `json:"root"`
	LastCheck  time.Time    `json:"last_check,omitzero"`
	LastChange time.Time    `json:"last_change,omitzero"` // when this node adopted it
	ValidUntil time.Time    `json:"valid_until,omitzero"`
	Expired    bool         `json:"expired,omitempty"`
	// ServedUntil is when an expired Release is given to clients no longer; zero for
	// never. Withheld says that this time has come.
	ServedUntil time.Time `json:"served_until,omitzero"`
	Withheld    bool      `json:"withheld,omitempty"`
	// Alarm says in a sentence that Valid-Until is near or past, and nobody has renewed
	// the Release; "" while all is well.
	Alarm string `json:"alarm,omitempty"`
	// Behind are the mirrors whose Release is older than that of another mirror.
	Behind []MirrorBehind `json:"behind,omitempty"`
	State  string         `json:"state"`
	// Watched says that the node follows it: it is configured, or hosts use it.
	Watched bool   `json:"watched,omitempty"`
	Error   string `json:"error,omitempty"` // of the last check
	// NoSuch says that upstream answered the last check, and has no such suite.
	NoSuch bool `json:"no_such,omitempty"`
	// FailingSince is when the first of the checks ended that have failed in a row; zero while the last one was good.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Notice says in a sentence what of the Release was passed over or cannot be verified; "" for
	// nothing.
	Notice string `json:"notice,omitempty"`
	// Unverified says that the generation from before a restart cannot be verified, so there is
	// nothing to serve; Notice says why.
	Unverified bool `json:"unverified,omitempty"`
	// Unreadable are indices that are served and could not be read, with the reason: what they list
	// is not verified. By path, relative to Dir.
	Unreadable map[string]string `json:"unreadable,omitempty"`
	// Used lists the indices that clients ask for, relative to Dir.
	Used     []string `json:"used,omitempty"`
	Retained int      `json:"retained"` // superseded generations still readable
	Members  int      `json:"members"`  // files that the Release lists
}

// UpstreamStatus is one upstream host.
type UpstreamStatus struct {
	Host      string `json:"host"`
	InUse     int    `json:"in_use"`  // connections busy with a request
	Waiting   int    `json:"waiting"` // requests that wait for one
	Limit     int    `json:"limit"`
	Bytes     int64  `json:"bytes"` // received since the start
	LastError string `json:"last_error,omitempty"`
	// LastFail is when LastError happened.
	LastFail time.Time `json:"last_error_at,omitzero"`
}

// FlightStatus is one fetch in progress.
type FlightStatus struct {
	Location  string       `json:"location"` // ARCHIVE/PATH
	Digest    proto.Digest `json:"digest"`
	Size      int64        `json:"size"` // -1 where it is not known
	Received  int64        `json:"received"`
	Readers   int          `json:"readers"`
	Source    string       `json:"source,omitempty"` // a tier: "upstream" or "peer"
	From      string       `json:"from,omitempty"`   // the mirror or the node of it
	StartedAt time.Time    `json:"started_at,omitzero"`
}

// TrafficStatus counts what clients were given since the start.
type TrafficStatus struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"` // answers of 400 and above
	Bytes    int64 `json:"bytes"`
	// Tiers counts by where the bytes came from: memory, disk, peer, upstream.
	Tiers map[string]TierTraffic `json:"tiers"`
}

// TierTraffic is the share of one tier.
type TierTraffic struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// Failure is an error that a host gets.
type Failure struct {
	Status int    `json:"status"` // 0 where there is none: the transfer broke off
	Reason string `json:"reason"` // see docs/errors.md
	Text   string `json:"text"`   // the sentence
	// Time is when a client last got it, Client the address of that client; zero for a failure that
	// a request would get.
	Time   time.Time `json:"time,omitzero"`
	Client string    `json:"client,omitempty"`
	// Count is how often in a row.
	Count int64 `json:"count,omitempty"`
}

// RefusedURL is something that hosts ask for and this node does not serve.
type RefusedURL struct {
	// URL is the root of what looks like an archive: "http://download.example.org/linux/debian",
	// "/name" of a mapped URL, or "CONNECT host:port".
	URL    string `json:"url"`
	Reason string `json:"reason"` // see docs/errors.md
	// Requests counts since First; Last is the latest one, and Example what it asked for.
	Requests int64     `json:"requests"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Example  string    `json:"example"`
	// Clients are the addresses of those that ask, at most 32; More says that there are others.
	Clients []string `json:"clients"`
	More    bool     `json:"more_clients,omitempty"`
}

// Why explains what the node would answer to a request for a URL, and from what.
type Why struct {
	URL      string `json:"url"`
	Location string `json:"location,omitempty"` // ARCHIVE/PATH; "" where no archive is meant
	Kind     string `json:"kind,omitempty"`
	Archive  string `json:"archive,omitempty"`
	Suite    string `json:"suite,omitempty"`
	// Generation is the signed date of the generation that lists the file.
	Generation time.Time `json:"generation,omitzero"`
	Listed     bool      `json:"listed"` // signed metadata names it
	// Unread are the suites whose indexes have to be read before it is known whether they list the file; the
	// archive itself where none of its suites is known yet.
	Unread []string     `json:"unread,omitempty"`
	Digest proto.Digest `json:"digest"`
	Size   int64        `json:"size"` // -1 where it is not known
	// Stored is the tier that has the bytes, "" where they must be fetched.
	Stored       string   `json:"stored,omitempty"`
	InFlight     bool     `json:"in_flight,omitempty"`
	UpstreamURLs []string `json:"upstream_urls,omitempty"` // where they would be fetched
	// Owners are the nodes that the ring has the object fetched by, in the order
	// in which they would take it over from each other; Holders other nodes that are
	// believed to store it. Both are empty where the node stands alone.
	Owners  []string `json:"owners,omitempty"`
	Holders []string `json:"holders,omitempty"`
	// Plan says, step by step, from which sources a request would get it; empty if it is
	// stored here.
	Plan []string `json:"plan,omitempty"`
	// Would is the error that a request meets as things stand, nil for none that is known; Latest the
	// last one that a host got for the URL within an hour.
	Would  *Failure `json:"would,omitempty"`
	Latest *Failure `json:"latest,omitempty"`
	// Sentences say the same for people, most important first.
	Sentences []string `json:"sentences"`
}

// RefreshResult is the outcome of asking upstream for a newer Release at once.
type RefreshResult struct {
	Suite string `json:"suite"` // ARCHIVE/DIR
	// Changed says that a new generation was adopted; From is the one before.
	Changed bool      `json:"changed"`
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	// Message says what happened, in one sentence.
	Message string `json:"message"`
}

// DropResult says that a node has forgotten a suite.
type DropResult struct {
	Suite string `json:"suite"` // ARCHIVE/DIR
	// Message says what happened, in one sentence.
	Message string `json:"message"`
}

// RemoveResult says that a missing node has been removed from the cluster.
type RemoveResult struct {
	Node string `json:"node"`
	// Message says what happened, in one sentence.
	Message string `json:"message"`
}

// LeaveResult says that a node has begun to leave its cluster. It drains as it does
// when it is stopped, and then ends; Status.Stopping shows the progress.
type LeaveResult struct {
	Node string `json:"node"`
	// WithinSeconds is how long that takes at most.
	WithinSeconds int64 `json:"within_seconds"`
	// Message says what happens, in one sentence.
	Message string `json:"message"`
}

// SnapshotsStatus is how snapshots and channels of a node do.
type SnapshotsStatus struct {
	Snapshots int `json:"snapshots"`
	Channels  int `json:"channels"`
	// Open is how many archives of snapshots are open, and Missing how many roots and indexes of
	// snapshots are not stored on the node.
	Open    int `json:"open"`
	Missing int `json:"missing"`
	// Troubles say what is not as it should be, a sentence each.
	Troubles []string `json:"troubles,omitempty"`
}
