package front

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The words that X-Aptmesh and the access log give as reason of an error, beside those of a
// proto.RejectKind. The table reasons explains them.
const (
	reasonRequest     = "bad-request"
	reasonMethod      = "method"
	reasonRoot        = "root-page"
	reasonHost        = "unknown-host"
	reasonPrefix      = "unknown-prefix"
	reasonDirectory   = "directory"
	reasonSnapshot    = "unknown-snapshot"
	reasonConnect     = "connect-refused"
	reasonTunnels     = "too-many-tunnels"
	reasonDrain       = "draining"
	reasonNotFound    = "not-found"
	reasonRefused     = "refused"
	reasonUnavailable = "unavailable"
	reasonCorrupt     = "corrupt"
	reasonDisk        = "disk"
	reasonInternal    = "internal"
	reasonCondition   = "precondition"
	reasonRange       = "range"
	reasonStream      = "broken-stream"
	reasonClient      = "client-gone"
	reasonClientNet   = "client-network"
	reasonConnections = "too-many-connections"
	reasonUnread      = "index-unread" // proto.CauseUnread
	reasonClassFull   = "class-full"   // proto.CauseClassFull
)

// refusal is an answer without an object. As an error its text is the sentence
// that the client gets.
type refusal struct {
	status int
	reason string
	text   string
	// phrase is what the status line says, where that is not the text. Of an error apt
	// shows the status line only.
	phrase     string
	retryAfter int    // seconds, 0 for none
	allow      string // of a 405
	closing    bool   // the connection ends with this answer
}

func (r *refusal) Error() string { return r.text }

func badRequest(text string) *refusal {
	return &refusal{status: http.StatusBadRequest, reason: reasonRequest, text: text}
}

// apt waits for at most 30 seconds, whatever Retry-After says (since 2.9.12).
const (
	retryDefault = 5
	retryMost    = 30
)

// statusFinal is the status of everything that a repetition within seconds does not
// change. apt repeats a request by itself after 408, 429, 500, 502, 503, 504 and 599
// (TransientCodes in methods/basehttp.cc, the same list since 2.2), and before 3.0.3 such
// a repetition may block it for ever. After a 404 of InRelease it tries Release. Any other
// status ends the request at once; docs/answers.md has the trials. Of these, 403 has the
// right meaning: the server refuses, and says why.
const statusFinal = http.StatusForbidden

// refuse maps the error of a Catalog or Fetcher to an answer. A verdict is final. A temporary
// failure never becomes final, and above all no 404, even if the error says both. An error
// that is neither is unknown, and counts as temporary.
//
// A failure of a disk or a network is never an internal error of the node, even if a room did not
// classify it.
func refuse(loc proto.Location, asked about, err error) *refusal {
	var (
		verdict     *proto.Rejected
		unavailable *proto.Unavailable
		refused     *proto.Refused
	)
	what := quote(loc.String()) + ": "
	cause := quote(strings.TrimPrefix(err.Error(), "read "+loc.String()+": ")) // not twice in one sentence
	switch {
	case errors.As(err, &verdict) && verdict.Kind == proto.RejectLoop:
		return &refusal{status: loopStatus, reason: string(verdict.Kind), text: what + cause, phrase: verdict.Reason}
	case errors.As(err, &verdict):
		return &refusal{status: statusFinal, reason: string(verdict.Kind), text: what + cause, phrase: verdict.Reason}
	case errors.As(err, &unavailable):
		r := passing(what, cause, retrySeconds(unavailable.RetryAfter))
		r.reason = cmp.Or(string(unavailable.Cause), r.reason)
		return r
	case errors.Is(err, proto.ErrNoSpace):
		return ofDisk(what, cause)
	case errors.Is(err, context.DeadlineExceeded):
		return passing(what, "it takes too long", retryDefault)
	case errors.Is(err, proto.ErrCorrupt):
		return &refusal{
			status: statusFinal, reason: reasonCorrupt, phrase: cause,
			text: what + cause + "; nothing of it was passed on or stored, and the next request fetches it again",
		}
	case isMissing(err) && asked.listed && asked.info != nil && asked.info.Root:
		// The current root has this file, and upstream has gone on. A client that is told that there is
		// none may go on without it: zypper without the signature.
		return passing(what, "the archive is publishing: upstream no longer has this file of the current generation", retryDefault)
	case isMissing(err):
		asked.otherForm = errors.Is(err, proto.ErrOtherForm)
		return &refusal{status: http.StatusNotFound, reason: reasonNotFound, phrase: asked.missingPhrase(), text: what + asked.missing()}
	case errors.As(err, &refused):
		return &refusal{
			status: statusFinal, reason: reasonRefused, phrase: "upstream refuses it: " + cause,
			text: what + "upstream refuses it: " + cause + "; see upstream and credentials of this archive in the node's configuration",
		}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, io.ErrUnexpectedEOF), isNetwork(err):
		return passing(what, cause, retryDefault)
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(syscall.Errno)), errors.Is(err, fs.ErrClosed):
		return ofDisk(what, cause)
	}
	return &refusal{
		status: http.StatusInternalServerError, reason: reasonInternal, phrase: "the node failed: " + cause,
		text: what + "the node failed: " + cause + "; its log and \"aptmesh why\" tell more",
	}
}

// isMissing reports whether upstream has no such file.
func isMissing(err error) bool {
	var refused *proto.Refused
	if errors.As(err, &refused) {
		return refused.Status == http.StatusNotFound || refused.Status == http.StatusGone
	}
	return errors.Is(err, proto.ErrNotFound)
}

// about is what is known of a location that something went wrong with.
type about struct {
	info   *proto.PathInfo // nil: nothing
	listed bool            // signed metadata names it
	// snapshot is the snapshot or channel of which it is asked; "" for none.
	snapshot string
	// otherForm says that the archive has the suite that a missing root file is of: proto.ErrOtherForm.
	otherForm bool
}

// missingPhrase is the status line about a file that upstream does not have. It begins with the usual words, because
// scripts look for apt's "404  Not Found", and apt itself for the status alone (pkgAcqMetaClearSig::Failed in
// acquire-item.cc). The sentence follows where the host fails because of it: at a suite that is not there. What a host
// may do without, such as a signature or an index that the archive has in another compression, has no sentence, because
// apt may show it in the lines that begin with "Ign:" (Acquire::Progress::Ignore::ShowErrorText).
func (a about) missingPhrase() string {
	phrase := http.StatusText(http.StatusNotFound)
	if a.info != nil && a.info.Root && !a.otherForm {
		phrase += ": " + a.missing()
	}
	return phrase
}

// missing is what to do about a file that upstream does not have.
func (a about) missing() string {
	switch {
	case a.otherForm:
		return "the archive has the suite without this file: it signs in another way, or not at all"
	case a.info != nil && a.info.Root && isMoment(a.snapshot):
		return "this node holds nothing of the suite as it was at " + a.snapshot
	case a.info != nil && a.info.Root && a.snapshot != "":
		return "the snapshot or channel " + quote(a.snapshot) + " has no such suite: \"aptmesh snapshot show\" lists those that it has"
	case a.info != nil && a.info.Root:
		return "the archive has no such suite; see the suite in the host's sources, or \"upstream\" of the archive in the node's configuration"
	case a.listed && a.info != nil && a.info.Index:
		return "the suite's Release lists it and no mirror has it: the archive is publishing, or its mirrors are incomplete"
	case a.info != nil && a.info.Index:
		return "the archive has no such index; see the components and architectures in the host's sources"
	}
	return "the archive has no such file; if a package list names it, refresh the list (apt update, dnf makecache, pacman -Sy)"
}

// ofDisk is the answer if this node's own disk fails, which may be temporary, too. The paths in
// cause are for the operator's log, and not secret.
func ofDisk(what, cause string) *refusal {
	r := passing(what, "the disk of this node: "+cause, retryDefault)
	r.reason = reasonDisk
	return r
}

// passing is the answer to a temporary failure. wait is in seconds.
func passing(what, cause string, wait int) *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, reason: reasonUnavailable, retryAfter: wait, phrase: cause,
		text: what + "not available at the moment: " + cause + "; ask again in " + strconv.Itoa(wait) + " seconds",
	}
}

// retrySeconds rounds up to whole seconds from 1 to retryMost.
func retrySeconds(d time.Duration) int {
	if d <= 0 {
		return retryDefault
	}
	return int(max(1, min(retryMost, (d+time.Second-1)/time.Second)))
}

// maxText bounds a sentence, and maxQuote what of a request or an error is repeated in
// one, in bytes: the advice after it must not be lost.
const (
	maxText  = 2000
	maxQuote = 500
)

// maxPhrase bounds a reason phrase, in bytes. apt takes 358 and shows them after the URL (ServerState::HeaderLine in
// methods/basehttp.cc: "%3u%359[^\n]", with the space). dnf shows the status alone (librepo, downloader.c: "Status code:
// %ld for %s"), and so do zypper and pacman. What to do stands first: where a sentence is cut, that must not be lost.
const maxPhrase = 350

// phrase makes a sentence fit for a status line: clean, and cut between two words.
func phrase(text string) string {
	text = strings.TrimSpace(clean(text))
	if len(text) <= maxPhrase {
		return text
	}
	const more = " ..."
	text = text[:maxPhrase-len(more)+1]
	if end := strings.LastIndexByte(text, ' '); end > maxPhrase/2 {
		text = text[:end]
	}
	return strings.TrimRight(text[:min(len(text), maxPhrase-len(more))], " ") + more
}

func quote(s string) string {
	if len(s) > maxQuote {
		return s[:maxQuote] + "..."
	}
	return s
}

// clean makes text fit for one line of plain ASCII that gives away no secret.
func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	text = hideSecrets(text)
	for i := range len(text) {
		if !plainByte(text[i]) {
			return strings.Map(func(r rune) rune {
				switch {
				case r == '…':
					return '.'
				case r < ' ' || r > '~':
					return '?'
				}
				return r
			}, text)
		}
	}
	return text
}

func plainByte(c byte) bool { return c >= ' ' && c <= '~' }

// shown is the target of a request for people: without its secrets.
func shown(target string) string { return quote(hideSecrets(target)) }

// hidden stands in the place of a secret.
const hidden = "***"

// hideSecrets replaces what can be one in the URLs of a text: what stands between "://" and "@" in the authority, and
// what follows a "?". A text that begins with a slash begins with a URL.
func hideSecrets(text string) string {
	if strings.HasPrefix(text, "/") {
		text = hideQuery(text, 0)
	}
	for from := 0; ; {
		i := strings.Index(text[from:], "://")
		if i < 0 {
			return text
		}
		from += i + len("://")
		end := strings.IndexAny(text[from:], "/?# \t\"'\n")
		if end < 0 {
			end = len(text) - from
		}
		if at := strings.LastIndexByte(text[from:from+end], '@'); at >= 0 {
			text = text[:from] + hidden + text[from+at:]
		}
		text = hideQuery(text, from)
	}
}

// hideQuery replaces the query of a URL in a text, of which a part begins at from.
func hideQuery(text string, from int) string {
	end := strings.IndexAny(text[from:], " \t\"'\n;,")
	if end < 0 {
		end = len(text) - from
	}
	q := strings.IndexByte(text[from:from+end], '?')
	if q < 0 || q+1 == end {
		return text
	}
	return text[:from+q+1] + hidden + text[from+end:]
}
