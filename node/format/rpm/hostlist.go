package rpm

import (
	"bytes"
	"crypto/sha512"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// HostLists writes the metalink or the mirror list of a repository, for hosts that want one in place of a URL. It names one
// mirror: the node where the host asks for it. Others would be asked past the node whenever that has an error to
// give. The sums in a metalink vouch for repomd.xml to dnf, as those of MirrorManager do.
type HostLists struct{}

// Names of lists, beside repodata/. dnf takes the URL of a mirrorlist= for a metalink where it has that word in it
// (libdnf/repo/Repo.cpp).
const (
	hostMetalink   = "metalink"
	hostMirrorlist = "mirrorlist"
)

// Of is the repomd.xml of the repository that a list lies in.
func (HostLists) Of(path string) string {
	dir, name := splitDir(path)
	if name != hostMetalink && name != hostMirrorlist {
		return ""
	}
	if dir == "" {
		return repomd
	}
	return dir + "/" + repomd
}

// Write writes a list: see front.HostLists.
func (HostLists) Write(url string, root []byte, date time.Time) (text, contentType string) {
	dir, name := splitDir(url)
	if name == hostMirrorlist {
		return dir + "/\n", "text/plain; charset=utf-8"
	}
	var at bytes.Buffer
	_ = xml.EscapeText(&at, []byte(dir+"/"+repomd)) // a Buffer takes everything
	protocol, _, _ := strings.Cut(dir, "://")
	timestamp := ""
	if !date.IsZero() {
		timestamp = fmt.Sprintf("   <mm0:timestamp>%d</mm0:timestamp>\n", date.Unix())
	}
	// librepo/metalink.c reads these elements, and takes the strongest sum.
	return fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" generator="aptmesh" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
%s   <size>%d</size>
   <verification>
    <hash type="sha256">%s</hash>
    <hash type="sha512">%x</hash>
   </verification>
   <resources maxconnections="1">
    <url protocol="%s" type="%s" preference="100">%s</url>
   </resources>
  </file>
 </files>
</metalink>
`, timestamp, len(root), proto.DigestOf(root), sha512.Sum512(root), protocol, protocol, at.String()), "application/metalink+xml"
}
