package deb

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// Open verifies the files of one form and reads the Release text that they sign. See
// catalog.Format. A *proto.Rejected says why a client would refuse the root.
func (f *Format) Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error) {
	name, text, signer, err := f.verify(suite, files, now)
	if err != nil {
		return nil, err
	}
	r, err := aptmeta.ParseRelease(text)
	if err != nil {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("the %s of %s cannot be read, and apt could not read it either", name, suite), err)
	}
	m := &proto.Manifest{
		Statement:  statement(text),
		Oddities:   r.Oddities,
		Date:       r.Date,
		Signed:     signer.Created.UTC().Truncate(time.Second),
		Proven:     signer.KeyID != "",
		Signer:     signer.Identity,
		KeyExpires: signer.Expires,
		ValidUntil: r.ValidUntil,
		Names: proto.Names{Origin: r.Origin, Label: r.Label, Suite: r.Suite, Codename: r.Codename,
			Architectures: strings.Join(slices.Sorted(slices.Values(r.Architectures)), " ")},
	}
	if signer.Created.IsZero() {
		m.Signed = time.Time{}
	}
	if m.Proven && m.Signer == "" {
		m.Signer = signer.KeyID
	}
	if sig, ok := files[signature]; ok && name == release && !m.Proven && !pgp.MayFit(text, sig) {
		m.Torn = signature
	}
	if r.Weak {
		// apt refuses it as well, unless the host says allow-weak (apt-pkg/deb/debmetaindex.cc,
		// debReleaseIndex::Load; apt-pkg/acquire-item.cc, AllowInsecureRepositories).
		m.Oddities = append(slices.Clip(m.Oddities), "it lists no file with SHA-256 or SHA-512, so nothing that it lists can be verified")
	}
	if signer.Weak != "" {
		m.Oddities = append(slices.Clip(m.Oddities), fmt.Sprintf("it is signed with %s alone, which apt 2.7.13 and later refuse", signer.Weak))
	}
	m.Security = isSecurity(suite, m.Names)
	m.Members = members(suite, r)
	m.Detail = newDetail(r, m)
	return m, nil
}

// verify returns the signed text of the files of a form, and its signer. In an unsigned archive the
// Signer is zero, and nothing proves the text.
func (f *Format) verify(suite proto.Suite, files map[string][]byte, now time.Time) (name string, text []byte, s pgp.Signer, err error) {
	clear, ok := files[inRelease]
	if !ok {
		text, ok = files[release]
		if !ok {
			return "", nil, s, reject(proto.RejectMalformed, fmt.Sprintf("the root of %s has neither InRelease nor Release", suite), nil)
		}
		sig, signed := files[signature]
		s, err = f.verifyDetached(suite, text, sig, signed, now)
		return release, text, s, err
	}
	text, s, err = f.verifyClear(suite, clear, now)
	return inRelease, text, s, err
}

func (f *Format) verifyClear(suite proto.Suite, file []byte, now time.Time) (text []byte, s pgp.Signer, err error) {
	if f.cfg.Keyring != nil {
		if text, s, err = aptmeta.VerifyInRelease(f.cfg.Keyring, file, now); err == nil {
			return text, s, nil
		}
	}
	if f.Unsigned(suite) {
		// apt takes a plain Release under this name where it trusts the archive without a signature.
		if text, err = aptmeta.SplitInRelease(file); err != nil {
			return nil, pgp.Signer{}, reject(proto.RejectMalformed, fmt.Sprintf("the InRelease of %s is not in the form that apt accepts", suite), err)
		}
		return text, pgp.Signer{}, nil
	}
	return nil, pgp.Signer{}, f.untrusted(suite, inRelease, err)
}

func (f *Format) verifyDetached(suite proto.Suite, text, sig []byte, signed bool, now time.Time) (pgp.Signer, error) {
	var err error
	if f.cfg.Keyring != nil && signed {
		s, failed := aptmeta.VerifyDetached(f.cfg.Keyring, text, sig, now)
		if failed == nil {
			return s, nil
		}
		err = failed
	}
	if f.Unsigned(suite) {
		return pgp.Signer{}, nil
	}
	if !signed {
		return pgp.Signer{}, reject(proto.RejectUntrusted, fmt.Sprintf("the Release of %s has no Release.gpg, and the archive is not configured as unsigned (to accept it all the same: `unsigned: true`)", suite), nil)
	}
	return pgp.Signer{}, f.untrusted(suite, release, err)
}

// untrusted says why a signature does not count. What is not a signed file at all is malformed: a
// login page, a file that was cut short, text around the message.
func (f *Format) untrusted(suite proto.Suite, name string, err error) error {
	switch {
	case f.cfg.Keyring == nil:
		return reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s cannot be trusted because its archive has no key (see `signed_by:`)", name, suite), nil)
	case errors.Is(err, pgp.ErrNotSigned):
		return reject(proto.RejectMalformed, fmt.Sprintf("the %s of %s is not in the form that apt accepts", name, suite), err)
	}
	return reject(proto.RejectUntrusted, fmt.Sprintf("the %s of %s is not trusted%s", name, suite, pgp.Advice(err, f.cfg.KeyPlace)), err)
}

// statement names what a Release says, whichever way it is signed: clearsigning does not keep white
// space at the end of lines (RFC 9580, section 7.2).
func statement(text []byte) proto.Digest {
	h := sha256.New()
	for line := range bytes.Lines(bytes.TrimRight(text, " \t\r\n")) {
		h.Write(bytes.TrimRight(line, " \t\r\n"))
		h.Write([]byte{'\n'})
	}
	return proto.Digest(h.Sum(nil))
}

// isSecurity reports whether a suite carries security updates. "dists/jessie/updates" is how
// security.debian.org called its suites until Debian 10.
func isSecurity(suite proto.Suite, n proto.Names) bool {
	for _, name := range []string{suite.Dir, n.Label, n.Suite, n.Codename} {
		if strings.Contains(strings.ToLower(name), "security") {
			return true
		}
	}
	return strings.HasSuffix(suite.Dir, "/updates")
}

// members lists what a Release lists. The root files are left out where a Release lists them: some
// archives list their own Release with a sum that cannot be right, and nothing but a signature
// vouches for a root.
func members(suite proto.Suite, r *aptmeta.Release) []proto.Member {
	list := make([]proto.Member, 0, len(r.Members))
	for _, path := range slices.Sorted(maps.Keys(r.Members)) {
		if path == inRelease || path == release || path == signature {
			continue
		}
		list = append(list, newMember(suite, r, r.Members[path]))
	}
	return list
}

func newMember(suite proto.Suite, r *aptmeta.Release, in aptmeta.Member) proto.Member {
	plain, _ := plain.TrimCompression(in.Path)
	m := proto.Member{
		Path: in.Path, Slot: in.Path, Ref: in.Ref(), SHA512: in.SHA512, Keys: keysOf(in),
		Upstream: upstreamNames(r, in), Plain: plain, PlainSize: proto.UnknownSize,
		Needed: !aptmeta.Optional(in.Path),
	}
	if u, ok := r.Members[plain]; ok {
		m.PlainSize = u.Size
	}
	kind := aptmeta.IndexKindOf(in.Path)
	if kind != aptmeta.NotAnIndex && m.Provable() {
		m.Table = tableOf(suite, in)
		m.Packages = kind == aptmeta.Packages
	}
	return m
}

// upstreamNames are a member's names below the suite: by its strongest sum first, which is right
// whatever upstream publishes at the moment, then its plain name (apt-pkg/acquire-item.cc,
// pkgAcqIndex::Init and AcquireByHash). Where names by hash are not announced they come last: hosts
// may insist on them (by-hash=force, or Acquire::By-Hash "force"), and an archive may have no others.
func upstreamNames(r *aptmeta.Release, m aptmeta.Member) []string {
	strongest := m.Strongest()
	byHash := aptmeta.ByHashPath(m.Path, strongest, m.Hex(strongest))
	if !r.AcquireByHash {
		return []string{m.Path, byHash}
	}
	return []string{byHash, m.Path}
}

func keysOf(m aptmeta.Member) []proto.HashKey {
	keys := make([]proto.HashKey, 0, len(aptmeta.HashTypes))
	for _, t := range aptmeta.HashTypes {
		if m.Has(t) {
			keys = append(keys, proto.HashKey{Kind: hashKinds[t], Sum: [16]byte(m.Sum(t))})
		}
	}
	return keys
}

var hashKinds = [...]proto.HashKind{
	aptmeta.MD5Sum: proto.HashMD5, aptmeta.SHA1: proto.HashSHA1,
	aptmeta.SHA256: proto.HashSHA256, aptmeta.SHA512: proto.HashSHA512,
}

// tableOf identifies what an index lists: its bytes, and the directories that its paths may begin at,
// because one content may serve two suites. Each compression has a table of its own: that they hold
// the same is not proven, because archives leave a stale one beside those that they write, and one may
// be readable where another is not.
func tableOf(suite proto.Suite, m aptmeta.Member) string {
	sum := m.SHA256[:]
	if !m.Has(aptmeta.SHA256) {
		sum = m.SHA512[:32]
	}
	where := sha256.New()
	for _, base := range bases(suite.Dir, m.Path) {
		where.Write([]byte(base + "\x00"))
	}
	if !fromBase(m.Path) {
		// This index lists files beside itself.
		plain, _ := plain.TrimCompression(m.Path)
		where.Write([]byte(plain))
	}
	return hex.EncodeToString(sum) + "-" + hex.EncodeToString(where.Sum(nil)[:8])
}
