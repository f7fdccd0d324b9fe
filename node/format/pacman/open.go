package pacman

import (
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Open verifies a database. See catalog.Format. A database has no date of its own: it is ordered by
// upstream's Last-Modified, which is what clients compare.
func (f *Format) Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error) {
	data, ok := files[suite.Name]
	if !ok {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("%s is missing", suite), nil)
	}
	signature, signed := files[suite.Name+sig]
	signer, err := f.verify(suite, data, signature, signed, now)
	if err != nil {
		return nil, err
	}
	if err := checkDatabase(suite, data); err != nil {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("%s is no database that pacman could read", suite), errors.Join(proto.ErrForged, err))
	}
	m := &proto.Manifest{Statement: proto.DigestOf(data), Proven: signer.KeyID != "", Signer: signer.Identity, KeyExpires: signer.Expires}
	if m.Proven {
		m.Signed = signer.Created.UTC().Truncate(time.Second)
		if m.Signer == "" {
			m.Signer = signer.KeyID
		}
	}
	if signed && !m.Proven && !pgp.MayFit(data, signature) {
		m.Torn = suite.Name + sig
	}
	if signer.Expired {
		m.Oddities = append(m.Oddities, "the key that signed it has expired: pacman accepts it only where its SigLevel trusts all keys")
	}
	if signer.Weak != "" {
		m.Oddities = append(m.Oddities, fmt.Sprintf("it is signed with %s alone, which newer clients refuse", signer.Weak))
	}
	if listsPackages(suite) {
		m.Members = []proto.Member{itself(suite, data, m.Statement)}
	}
	return m, nil
}

// itself is the database as the index that it is. It has no slot: it comes with the root.
func itself(suite proto.Suite, data []byte, digest proto.Digest) proto.Member {
	return proto.Member{
		Path: suite.Name, Ref: proto.Ref{Digest: digest, Size: int64(len(data))},
		Upstream: []string{suite.Name}, Plain: suite.Name, PlainSize: proto.UnknownSize,
		Table: tableOf(suite, digest), Packages: true, Needed: true,
	}
}

// tableOf identifies what a database lists: its bytes, and where its packages lie.
func tableOf(suite proto.Suite, digest proto.Digest) string {
	return digest.String() + "-" + proto.DigestOf([]byte(suite.Dir)).Short()
}

// verify returns who signed a database; the zero Signer where nobody needs to.
func (f *Format) verify(suite proto.Suite, data, signature []byte, signed bool, now time.Time) (pgp.Signer, error) {
	switch {
	case f.Unsigned(suite):
		return pgp.Signer{}, nil
	case f.cfg.Keyring == nil:
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("%s cannot be trusted because its archive has no key (see `signed_by:`)", suite), nil)
	case !signed:
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("%s has no signature beside it, and the archive is not configured as one without (`trust_https: true` or `unsigned: true`)", suite), nil)
	}
	signer, err := f.cfg.Keyring.Verify(data, signature, now)
	switch {
	case err == nil:
		return signer, nil
	case errors.Is(err, pgp.ErrNotSigned):
		return signer, reject(proto.RejectMalformed, fmt.Sprintf("the signature of %s is none", suite), errors.Join(proto.ErrForged, err))
	case errors.Is(err, pgp.ErrBadSignature):
		err = errors.Join(proto.ErrForged, err)
	}
	return signer, reject(proto.RejectUntrusted, fmt.Sprintf("%s is not trusted%s", suite, pgp.Advice(err, f.cfg.KeyPlace)), err)
}

// reject is the refusal of a root. The reason begins with the fault; the cause is told behind it.
func reject(kind proto.RejectKind, reason string, err error) error {
	if err != nil {
		reason += ": " + err.Error()
	}
	return &proto.Rejected{Kind: kind, Reason: reason, Err: err}
}
