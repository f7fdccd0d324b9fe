package rpmarchive

import (
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Named is a repomd.xml as a metalink names it.
type Named struct {
	Repomd []byte
	Date   time.Time // zero: it has no timestamp
	// Sums are the kinds of its sums; none: md5, sha1, sha256 and sha512, as MirrorManager writes them.
	Sums []string
}

// Metalink is what MirrorManager says of a repository: its current repomd.xml, and those that
// mirrors may still have.
func Metalink(current Named, alternates ...Named) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" pubdate="Thu, 25 Apr 2024 15:00:00 GMT" generator="mirrormanager" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
`)
	current.write(&b)
	if len(alternates) > 0 {
		b.WriteString("   <mm0:alternates>\n")
		for _, a := range alternates {
			b.WriteString("    <mm0:alternate>\n")
			a.write(&b)
			b.WriteString("    </mm0:alternate>\n")
		}
		b.WriteString("   </mm0:alternates>\n")
	}
	b.WriteString(`   <resources maxconnections="1">
    <url protocol="https" type="https" location="DE" preference="100">https://mirror.example.org/fedora/repodata/repomd.xml</url>
    <url protocol="rsync" type="rsync" location="DE" preference="100">rsync://mirror.example.org/fedora/repodata/repomd.xml</url>
   </resources>
  </file>
 </files>
</metalink>
`)
	return []byte(b.String())
}

func (n Named) write(b *strings.Builder) {
	if !n.Date.IsZero() {
		fmt.Fprintf(b, "     <mm0:timestamp>%d</mm0:timestamp>\n", n.Date.Unix())
	}
	fmt.Fprintf(b, "     <size>%d</size>\n     <verification>\n", len(n.Repomd))
	kinds := n.Sums
	if kinds == nil {
		kinds = []string{"md5", "sha1", "sha256", "sha512"}
	}
	for _, kind := range kinds {
		of := map[string]string{"md5": testarchive.MD5Sum, "sha1": testarchive.SHA1, "sha256": testarchive.SHA256, "sha512": testarchive.SHA512}[kind]
		fmt.Fprintf(b, "      <hash type=%q>%s</hash>\n", kind, testarchive.Sum(of, n.Repomd))
	}
	b.WriteString("     </verification>\n")
}
