package rpm

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A metalink of MirrorManager names the repomd.xml of one repository by its sums: the current one,
// and as alternates those before it that mirrors may still have. librepo accepts each of them
// (librepo/yum.c, lr_get_best_checksum). Its URLs depend on who asks and are not
// read here.

// maxMetalink bounds a metalink in bytes, maxNamed the files that it names. Those of Fedora have
// some 40 kB, for a hundred mirrors.
const (
	maxMetalink = 1 << 20
	maxNamed    = 1000
)

// named is a file as a metalink names it.
type named struct {
	sum       sums
	timestamp int64
	alternate bool // an earlier one, that mirrors may still have
}

// is reports whether the file has these bytes. The strongest sum counts, as for librepo. A weak one
// proves nothing.
func (n *named) is(text []byte) bool {
	if n.sum.sha512 != (proto.SHA512{}) {
		return n.sum.sha512 == proto.SHA512(sha512.Sum512(text))
	}
	return !n.sum.sha256.IsZero() && n.sum.sha256 == proto.DigestOf(text)
}

var errNotNamed = errors.New("none of the files that it names has these bytes; one of the two is behind, which lasts until both have caught up")

// findInMetalink looks for the bytes of a repomd.xml among those that a metalink names, and returns
// their timestamp, which MirrorManager takes from the newest record (set_repomd_timestamp in
// mirrormanager2). It is zero where the metalink has none, or one in the future. superseded says that
// they are an alternate only.
func findInMetalink(metalink, text []byte, now time.Time) (date time.Time, superseded bool, err error) {
	found := false
	superseded = true
	whole, err := readMetalink(metalink, func(n *named) {
		if !n.is(text) {
			return
		}
		if !n.alternate {
			superseded = false
		}
		if found {
			return
		}
		found = true
		if n.timestamp >= firstDate && n.timestamp <= now.Unix() {
			date = time.Unix(n.timestamp, 0).UTC()
		}
	})
	switch {
	case err != nil:
		return time.Time{}, false, fmt.Errorf("it cannot be read: %w", err)
	case !whole:
		return time.Time{}, false, errors.New("it has no end (is it a metalink? is it cut short?)")
	case !found:
		return time.Time{}, false, errNotNamed
	}
	return date, superseded, nil
}

// readMetalink calls do for each repomd.xml that a metalink names, and reports whether the document
// has an end.
func readMetalink(metalink []byte, do func(*named)) (whole bool, err error) {
	s := newScanner(bytes.NewReader(metalink), maxMetalink)
	var n named
	inside, count := false, 0
	for {
		name, err := s.next()
		if errors.Is(err, io.EOF) {
			return whole, nil
		}
		if err != nil {
			return false, err
		}
		switch string(name) {
		case "/metalink":
			whole = true
		case "file":
			inside, n = false, named{}
			err = s.attributes(func(name, value []byte) {
				if string(name) == "name" {
					inside = string(unescape(nil, value)) == path.Base(repomd)
				}
			})
		case "mm0:alternate":
			n = named{alternate: true}
		case "/mm0:alternate":
			n = named{}
		case "mm0:timestamp":
			var text []byte
			text, err = s.text()
			n.timestamp, _ = readNumber(text)
		case "hash":
			err = readChecksum(s, &n.sum)
		case "/verification": // behind the timestamp, for the file as for each alternate
			if inside {
				do(&n)
			}
			if count++; count > maxNamed {
				return false, fmt.Errorf("%w: %d files", errTooMany, maxNamed)
			}
		case "/file":
			inside = false
		}
		if err != nil {
			return false, err
		}
	}
}
