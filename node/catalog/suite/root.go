package suite

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Root is a root that has been verified and read.
type Root struct {
	Gen      proto.Generation
	Manifest *proto.Manifest
	// Undated says that the root has no Date of its own; Gen.Date stands in for it.
	Undated bool
	// Form is the root's place among the forms of the format: 0 is the preferred one.
	Form int
}

// expired reports whether clients refuse the root for its age.
func (r *Root) expired(wall time.Time) bool {
	until := r.Manifest.ValidUntil
	return !until.IsZero() && wall.After(until)
}

// Candidate is a root that somebody offers.
type Candidate struct {
	Root
	// Mirror gave it; "" where nodes did, or the archive has one upstream.
	Mirror string
	// From are the nodes that offer it, and hold what it names; none where a mirror does.
	From []string
	// Validators are upstream's, for the next conditional request; zero where nodes offer it.
	Validators Validators
	// Prevails says that it takes the place of another root of the same date.
	Prevails bool
	// Offered are the companions that the nodes announce with it, not verified.
	Offered []proto.Companion
	// Files is for the driver: the bytes.
	Files map[string][]byte
}

// source names the mirror or node that offers the candidate.
func (c *Candidate) source() string {
	if len(c.From) > 0 {
		return "node " + c.From[0]
	}
	return mirrorName(c.Mirror)
}

func mirrorName(mirror string) string {
	if mirror == "" {
		return "upstream"
	}
	return mirror
}

// Validators are what a conditional request for a root is made of.
type Validators struct {
	Name      string       `json:"name"` // of the root file
	Root      proto.Ref    `json:"root"`
	Statement proto.Digest `json:"statement"`
	ETag      string       `json:"etag,omitempty"`
	Modified  time.Time    `json:"modified,omitzero"`
}

// Judge knows the format, and the other suites of the archive. It must be pure and quick.
type Judge interface {
	// Belongs is Format.Belongs for the machine's suite.
	Belongs(current *proto.Names, offered *proto.Manifest) proto.Belonging
	// Replicated reports whether another suite of the archive holds this statement.
	InOtherSuite(statement proto.Digest) bool
}
