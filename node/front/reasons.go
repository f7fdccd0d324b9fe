package front

import (
	"net/http"
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// Reason explains one word that X-Aptmesh, the access log and `aptmesh why` give as the reason of
// an error. docs/errors.md is made from this table.
type Reason struct {
	Word string
	// Status is what the host gets; 0 where its transfer breaks off.
	Status int
	// Means says what happened, and Next what the operator does about it.
	Means, Next string
}

// reasons are in the order of their statuses.
var reasons = []Reason{
	{reasonRequest, http.StatusBadRequest, "the URL cannot name a file: it is no http or https URL, or its path leads above the root",
		"correct the URL in the host's sources"},
	{reasonHost, http.StatusForbidden, "the host uses this node as its proxy, and no configured archive has this URL",
		"add the archive under `archives`, or its URL to the `aliases` of one; `aptmesh refused` lists what was refused to hosts"},
	{reasonConnect, http.StatusForbidden, "the host came here for an https source; such traffic can be neither checked nor stored",
		"one of three: have the host go there directly (`Acquire::https::Proxy \"DIRECT\";` for apt; `aptmesh client-config` prints it); configure the archive, and give the host its address at the node; or let the tunnel pass, with the key that the answer names"},
	{reasonClientNet, http.StatusForbidden, "a list of networks keeps this client out, of the node or of the archive",
		"if the client should be let in, change the key that the answer names"},
	{string(proto.RejectUntrusted), http.StatusForbidden, "the Release (`repomd.xml`, database) is not signed, or not with a key of `signed_by`, or its signature is bad or expired; a client that checks signatures refuses it, too",
		"install the archive's new keyring and reload, or name another keyring in `signed_by`; if the signature itself is bad, ask the archive"},
	{string(proto.RejectMalformed), http.StatusForbidden, "the Release (`repomd.xml`, database) is in a form that clients refuse, too, such as text around the signed part",
		"fetch the file from upstream by hand and look at what it sends"},
	{string(proto.RejectFuture), http.StatusForbidden, "the Release is dated ahead of this node's clock",
		"set the clock of the node; if that is right, tell the archive"},
	{string(proto.RejectForeign), http.StatusForbidden, "the Release has a good signature, but it is the Release of another suite or archive",
		"look at the mirror's layout; `aptmesh refresh --allow-older ARCHIVE/SUITE` accepts a suite that was renamed"},
	{string(proto.RejectExpired), http.StatusForbidden, "no upstream answers, and the stored Release expired longer ago than `stale.serve_expired` allows; packages and indexes by hash are still served",
		"repair the way to upstream, or allow more time"},
	{reasonCorrupt, http.StatusForbidden, "the bytes of every mirror differ from what the signed metadata lists, or are a web page, such as a login, in place of the file",
		"fetch the file from upstream by hand and look at it; wait until the mirrors have synced, or add another mirror under `upstreams`"},
	{reasonRefused, http.StatusForbidden, "upstream refuses for good: a login is missing, access is denied, or it redirects to an address that the node must not ask",
		"see `upstream`, `credentials` and `upstream_client.internal_allow`; where hosts send a token in the query of the URL, the node needs one of its own: `credentials.query_file`"},
	{reasonPrefix, http.StatusNotFound, "the first part of the path is neither the name of a configured archive nor the host of one",
		"correct the host's sources, or add the archive under `archives`; `aptmesh refused` lists what was refused to hosts"},
	{reasonSnapshot, http.StatusNotFound, "the URL names a snapshot or a channel that this node does not have, or that does not have the archive; or a moment of which nothing is held",
		"`aptmesh snapshot list` and `aptmesh channel list` show those that there are; correct the host's sources, or make it"},
	{reasonDirectory, http.StatusNotFound, "the URL is a directory; the node shows none, and package managers need none",
		"nothing: only browsers and scripts ask for one"},
	{reasonNotFound, http.StatusNotFound, "upstream has no such file, or no such suite",
		"a package: refresh the host's package lists (`apt update`, `dnf makecache`, `pacman -Sy`). A suite: correct the host's sources"},
	{reasonMethod, http.StatusMethodNotAllowed, "only GET, HEAD and CONNECT are served",
		"nothing: package managers use no other"},
	{reasonRoot, http.StatusNotAcceptable, "no error: the URL is the node's own. Tools that look for a cache expect this status; browsers get a page",
		"nothing"},
	{reasonCondition, http.StatusPreconditionFailed, "the client asked for one version of the file, and the one here is another",
		"nothing: package managers send no such condition; a script must ask again without `If-Match`"},
	{reasonRange, http.StatusRequestedRangeNotSatisfiable, "the client asked for a part behind the end of the file, and most often has the whole file; or a mirror sent wrong bytes of the file within the last hour, and what the client has may be wrong",
		"nothing for dnf and pacman, which delete what they have, nor if the file on the host is right; else delete it there (`apt clean`)"},
	{reasonInternal, http.StatusInternalServerError, "the node failed in a way that nobody foresaw",
		"report it, with the line of the node's log that says `a request failed inside the node`"},
	{reasonUnavailable, http.StatusServiceUnavailable, "upstream cannot be reached, is too slow, gives only a part, asks to wait, or is publishing; this may pass",
		"see `aptmesh status`: the mirrors of the archive, and the note of the suite"},
	{reasonDisk, http.StatusServiceUnavailable, "the disk of this node is full, or reading or writing it failed",
		"make room, or look at the disk; `aptmesh status` says what is wrong with the store"},
	{reasonUnread, http.StatusServiceUnavailable, "the node is still reading the indexes that may list the file; until then it cannot check the bytes, so it gives none out. The host asks again",
		"nothing, if it passes: a new node, or one with a slow mirror, needs some time once. If it does not pass, see the mirrors in `aptmesh status`"},
	{reasonClassFull, http.StatusServiceUnavailable, "the archive is one of a class (PPAs), and hosts use as many archives of it as `max_archives` allows: each was asked for within the last hour",
		"raise `archives.NAME.max_archives`; `aptmesh status` lists the archives"},
	{reasonTunnels, http.StatusServiceUnavailable, "too many CONNECT tunnels are open on this node",
		"find out which hosts hold them (the access log has `result=tunnel`)"},
	{reasonConnections, http.StatusServiceUnavailable, "this client address has as many connections open as `clients.connections` allows",
		"raise the cap if many hosts share the address"},
	{reasonDrain, http.StatusServiceUnavailable, "the node is shutting down; when the host asks again, another node answers, or this one after its restart",
		"nothing; if it lasts, find out why the node does not come back"},
	{string(proto.RejectLoop), loopStatus, "the request came back to the node or the cluster that sent it",
		"find out which of these leads back to the cluster: `upstream`, `upstream_client.proxy`, `http_proxy`, or the name in DNS"},
	{reasonStream, 0, "after the body had begun, its bytes turned out to be wrong, or no source could continue it; the host asks again",
		"see `error` in the access log; *corrupt* and *unavailable* above say what helps"},
	{reasonClient, 0, "the client closed its connection (499 in the log); no answer was given",
		"nothing, unless many do: then see in the access log (`ms`) how long they waited"},
}

// Reasons returns all reasons that an error can have.
func Reasons() []Reason { return slices.Clone(reasons) }

// ReasonOf returns the reason of that word.
func ReasonOf(word string) (Reason, bool) {
	i := slices.IndexFunc(reasons, func(r Reason) bool { return r.Word == word })
	if i < 0 {
		return Reason{}, false
	}
	return reasons[i], true
}
