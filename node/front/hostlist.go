package front

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// HostLists writes the lists of mirrors that hosts of a format ask for beside a repository. Each names this node and no
// other mirror. Safe for concurrent use.
type HostLists interface {
	// Of names the root file for which the list at a path is; "" for a path that is no list.
	Of(path string) string
	// Write writes the list that hosts ask for at a URL. root is the content of the root file, of a generation with that
	// date; zero where none is known.
	Write(url string, root []byte, date time.Time) (text, contentType string)
}

// maxListed bounds the root file that a list is written of, in bytes.
const maxListed = 8 << 20

// hostListAt answers a request for a list beside a repository. false: it is none, or there is no repository, so that the
// URL means a file like any other.
func (x *exchange) hostListAt() bool {
	lists := x.rules.hostLists[x.loc.Archive]
	if lists == nil || lists.Of(x.loc.Path) == "" {
		return false
	}
	url, _, _ := strings.Cut(x.r.RequestURI, "?")
	if strings.HasPrefix(url, "/") {
		url = x.base() + url
	}
	loc, info := x.loc, x.info
	err := x.hostList(lists, url)
	if errors.Is(err, proto.ErrNotFound) {
		x.loc, x.info, x.entry, x.subject = loc, info, proto.Resolution{}, subject{}
		return false
	}
	if err != nil {
		x.fail(err)
	}
	return true
}

// hostList answers with the list of the location, which hosts have at a URL. It is written of the root that a host would
// get now. After an error nothing has been answered.
func (x *exchange) hostList(lists HostLists, url string) error {
	x.loc.Path = lists.Of(x.loc.Path)
	x.info = x.rules.formats[x.loc.Archive].PathInfo(x.loc.Path)
	x.conditions = conditions{}
	x.subject = subject{snapshot: x.snapshot, loc: x.loc, info: &x.info, now: x.began}
	blob, err := x.openPatiently()
	if err != nil {
		return err
	}
	defer blob.Close()
	root, err := io.ReadAll(io.LimitReader(blob.Reader(), maxListed+1))
	switch {
	case err != nil:
		return err
	case len(root) > maxListed:
		return fmt.Errorf("%s is too long to be listed: %w", x.loc, proto.ErrCorrupt)
	}
	text, contentType := lists.Write(url, root, x.entry.Generation)
	x.conditions = conditionsOf(x.r)
	a := answer{
		verdict: verdict{status: http.StatusOK}, cache: cacheNever, age: -1, contentType: contentType, text: text,
		note: note{result: resultPage, snapshot: x.snapshot, generation: x.entry.Generation, age: -1, location: true},
	}
	a.length = int64(len(text))
	x.sendText(&a)
	return nil
}

// openPatiently opens the location, and holds the request back where an error may pass.
func (x *exchange) openPatiently() (*proto.Blob, error) {
	blob, err := x.open()
	for wait := firstRetry; err != nil && x.heldBack(err, wait); wait = min(2*wait, lastRetry) {
		blob, err = x.open()
	}
	return blob, err
}
