package ring

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// maxMeta is what this node says of itself at most, in bytes. memberlist's own
// limit is 512, beyond which it panics; the rest is for fields to come.
const maxMeta = 400

// metaVersion is the version of the fields below. Fields are added and never change their
// meaning. So the version says which fields exist; any version can be read.
const metaVersion = 1

// meta is what a node says of itself in memberlist's metadata.
type meta struct {
	Version    int    `json:"v"`
	State      State  `json:"s"`
	Ring       int    `json:"r"`
	Peer       string `json:"p"`
	Datacenter string `json:"d,omitempty"`
	Software   string `json:"sw,omitempty"`
}

func encodeMeta(n Node) []byte {
	b, err := json.Marshal(meta{metaVersion, n.State, n.RingVersion, n.PeerAddr, n.Datacenter, n.Version})
	if err != nil {
		panic("metadata of strings and numbers: " + err.Error()) // cannot be
	}
	return b
}

// checkMeta reports what of a node cannot be said in metadata.
func checkMeta(n Node) error {
	for field, s := range map[string]string{"datacenter": n.Datacenter, "peer address": n.PeerAddr, "version": n.Version} {
		if !printable(s) {
			return fmt.Errorf("%s %q: must be printable text", field, s)
		}
	}
	if size := len(encodeMeta(n)); size > maxMeta {
		return fmt.Errorf("datacenter, peer address and version take %d bytes too many together (%q, %q, %q)",
			size-maxMeta, n.Datacenter, n.PeerAddr, n.Version)
	}
	return nil
}

// decodeMeta reads what another node says of itself. It may be anybody's bytes.
func decodeMeta(b []byte) (meta, error) {
	var said meta
	if len(b) > memberlist.MetaMaxSize {
		return meta{}, fmt.Errorf("metadata of %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return meta{}, fmt.Errorf("metadata: %w", err)
	}
	if said.Version < 1 || said.Ring < 0 {
		return meta{}, errors.New("metadata without version")
	}
	for _, s := range []string{said.Peer, said.Datacenter, said.Software} {
		if !printable(s) {
			return meta{}, errors.New("metadata with text that is not printable")
		}
	}
	return said, nil
}

// nodeOf is a node as memberlist knows it. A node whose metadata cannot be read is a
// member, but owns nothing and cannot be asked.
func nodeOf(n *memberlist.Node) (Node, error) {
	node := Node{Name: n.Name, GossipAddr: n.Address()}
	said, err := decodeMeta(n.Meta)
	if err != nil {
		return node, err
	}
	node.Datacenter, node.PeerAddr, node.Version = said.Datacenter, said.Peer, said.Software
	node.State, node.RingVersion = said.State, said.Ring
	return node, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
