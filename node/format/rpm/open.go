package rpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Open verifies repomd.xml by the signature beside it or by its metalink, over the exact bytes, and
// reads it. See catalog.Format. A *proto.Rejected says why a client would refuse the root.
func (f *Format) Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error) {
	if isTree(suite) {
		return f.openTree(suite, files[suite.Name], now)
	}
	text, ok := files[repomd]
	if !ok {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("the root of %s has no %s", suite, repomd), nil)
	}
	signer, err := f.verify(suite, text, files, now)
	if err != nil {
		return nil, err
	}
	witness, witnessed := files[proto.WitnessFile]
	var named time.Time
	var superseded bool
	if witnessed {
		if named, superseded, err = findInMetalink(witness, text, now); err != nil {
			return nil, reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s is not vouched for by its metalink", repomd, suite), err)
		}
	}
	doc, err := parseRepomd(text)
	if err != nil {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("the %s of %s cannot be read", repomd, suite), err)
	}
	m := &proto.Manifest{
		Statement:  proto.DigestOf(text),
		Date:       doc.date(now),
		Proven:     signer.KeyID != "" || witnessed,
		Signer:     signer.Identity,
		KeyExpires: signer.Expires,
		Superseded: superseded,
		Names:      proto.Names{Origin: doc.distro, Label: doc.content, Suite: doc.repoID},
	}
	if signer.KeyID != "" {
		m.Signed = signer.Created.UTC().Truncate(time.Second)
		if m.Signer == "" {
			m.Signer = signer.KeyID
		}
	}
	if m.Date.IsZero() {
		m.Date = named
	}
	if sig, ok := files[signature]; ok && signer.KeyID == "" && !pgp.MayFit(text, sig) {
		m.Torn = signature
	}
	m.Members, m.Oddities = f.members(doc, suite)
	if signer.Expired {
		m.Oddities = append(m.Oddities, "the key that signed it has expired: zypper accepts it, dnf does not")
	}
	if signer.Weak != "" {
		m.Oddities = append(m.Oddities, fmt.Sprintf("it is signed with %s alone, which newer clients refuse", signer.Weak))
	}
	return m, nil
}

// verify tells who signed the root. In an unsigned archive, and in one with metalinks, the zero
// Signer comes with a root that no key vouches for.
func (f *Format) verify(suite proto.Suite, text []byte, files map[string][]byte, now time.Time) (pgp.Signer, error) {
	sig, signed := files[signature]
	var err error
	if f.cfg.Keyring != nil && signed {
		s, failed := f.cfg.Keyring.Verify(text, sig, now)
		if failed == nil {
			return s, nil
		}
		err = failed
	}
	switch {
	case f.Unsigned(suite):
		return pgp.Signer{}, nil
	case f.cfg.Metalink != nil:
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("no entry of `metalink:` names %s, so that nothing can vouch for its %s", suite, repomd), nil)
	case !signed:
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s has no %s, and the archive is not configured as unsigned (to accept it all the same, as dnf does by default: `unsigned: true`)", repomd, suite, signature), nil)
	case f.cfg.Keyring == nil:
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s cannot be trusted because its archive has no key (see `signed_by:`)", repomd, suite), nil)
	case errors.Is(err, pgp.ErrNotSigned):
		return pgp.Signer{}, reject(proto.RejectMalformed, fmt.Sprintf("the %s of %s is no signature", signature, suite), err)
	}
	return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s is not trusted%s", repomd, suite, pgp.Advice(err, f.cfg.KeyPlace)), err)
}

// reject is the refusal of a root. The reason begins with the fault; the cause is told behind it.
func reject(kind proto.RejectKind, reason string, err error) error {
	if err != nil {
		reason += ": " + err.Error()
	}
	if errors.Is(err, pgp.ErrNotSigned) || errors.Is(err, pgp.ErrBadSignature) {
		err = errors.Join(proto.ErrForged, err)
	}
	return &proto.Rejected{Kind: kind, Reason: reason, Err: err}
}
