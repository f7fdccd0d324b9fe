package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Record is what a snapshot is. It is never changed; its name on every node is the digest of its text.
type Record struct {
	// Taken is the moment at which all of it was current, in whole seconds, UTC. Roots are verified as of then.
	Taken time.Time `json:"taken"`
	// Expires is when it is removed, unless a channel stands for it then; zero for never. Whole seconds, UTC.
	Expires time.Time `json:"expires,omitzero"`
	// Rule is the name of the rule of the configuration by which it was taken; "" for an operator.
	Rule string `json:"rule,omitempty"`
	// Note is what the operator wrote of it.
	Note string `json:"note,omitempty"`
	// Hold is the level at which packages are held: "" for none, or a word of who holds them.
	Hold string `json:"hold,omitempty"`
	// Archives are what was captured, by Name in ascending order.
	Archives []Archive `json:"archives"`
}

// Archive is an archive in a snapshot.
type Archive struct {
	Name   string           `json:"name"`
	Suites []proto.Captured `json:"suites"`
}

// archive returns an archive of the snapshot; nil where it is none of it.
func (r *Record) archive(name string) *Archive {
	for i := range r.Archives {
		if r.Archives[i].Name == name {
			return &r.Archives[i]
		}
	}
	return nil
}

// Blobs are the contents that must stay stored for the snapshot, each once.
func (r *Record) Blobs() []proto.Ref {
	var refs []proto.Ref
	seen := make(map[proto.Digest]bool)
	for _, a := range r.Archives {
		for _, s := range a.Suites {
			for _, ref := range s.Blobs() {
				if !seen[ref.Digest] {
					seen[ref.Digest] = true
					refs = append(refs, ref)
				}
			}
		}
	}
	return refs
}

// maxRecord is the length of the longest record that is read, in bytes.
const maxRecord = 2 << 20 // so that it fits into a message between nodes

// encode returns the text of a record and its digest.
func (r *Record) encode() ([]byte, proto.Digest, error) {
	data, err := json.Marshal(r)
	if err == nil && len(data) > maxRecord {
		err = fmt.Errorf("a snapshot of so many suites takes %d bytes: more than %d cannot be read again; take several snapshots", len(data), maxRecord)
	}
	return data, proto.DigestOf(data), err
}

// decode reads a record, whoever wrote it.
func decode(data []byte) (*Record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("a record of a snapshot has %d bytes: more than one may have", len(data))
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("a record of a snapshot cannot be read: %w", err)
	}
	if r.Taken.IsZero() || len(r.Archives) == 0 {
		return nil, errors.New("a record of a snapshot says nothing")
	}
	if !r.Expires.IsZero() && !r.Expires.After(r.Taken) {
		return nil, errors.New("a record of a snapshot expires before it was taken")
	}
	for i, a := range r.Archives {
		if a.Name == "" || len(a.Suites) == 0 || i > 0 && r.Archives[i-1].Name >= a.Name {
			return nil, errors.New("a record of a snapshot names no archive, no suite, or one twice")
		}
		for _, s := range a.Suites {
			if s.Suite.Archive != a.Name || s.Root.Digest.IsZero() || s.RootName == "" {
				return nil, fmt.Errorf("a record of a snapshot has no root for a suite of %s", a.Name)
			}
		}
	}
	return &r, nil
}
