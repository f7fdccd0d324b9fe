package deb

import (
	"errors"

	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// reject is the refusal of a root. The reason begins with the fault; the cause follows.
func reject(kind proto.RejectKind, reason string, err error) error {
	if err != nil {
		reason += ": " + err.Error()
	}
	if errors.Is(err, pgp.ErrNotSigned) || errors.Is(err, pgp.ErrBadSignature) {
		err = errors.Join(proto.ErrForged, err)
	}
	return &proto.Rejected{Kind: kind, Reason: reason, Err: err}
}
