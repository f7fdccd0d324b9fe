package differential

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

const (
	inRelease = "dists/noble/InRelease"
	release   = "dists/noble/Release"
	signature = "dists/noble/Release.gpg"
)

// Keys that sign in place of, or beside, the usual one.
var (
	keyA, keyB, keyC = testarchive.NewKey("A", testarchive.KeyOptions{}), testarchive.NewKey("B", testarchive.KeyOptions{}), testarchive.NewKey("C", testarchive.KeyOptions{})
	keySub           = testarchive.NewKey("S", testarchive.KeyOptions{SigningSubkey: true})
)

// roots are odd ways to sign, and roots that change alone.
func roots() []row { return concat(resigned(), kindsOfRoot(), signatures()) }

// resigned are archives of which the second generation is the first one, signed anew. The
// packages stay as they are, and a host must see the new signature.
func resigned() []row {
	first := func(int) []testarchive.Package { return usual(1) }
	// again signs the Release of generation 1 with that key, at that time.
	again := func(s *site, gen int, key *testarchive.Key, at time.Time, names ...string) {
		if gen == 1 {
			return
		}
		text := s.original
		for _, name := range names {
			switch name {
			case inRelease:
				s.put(name, lower(text, at, key, s.first), gen)
			case release:
				s.put(name, text, gen)
			case signature:
				s.put(name, testarchive.DetachSign(text, at, key), gen)
			}
		}
	}
	otherKey := [][]*testarchive.Key{{keyA}, {keyB}}
	one := func(name string, suite testarchive.Suite, key *testarchive.Key, names ...string) row {
		r := row{name: name, suite: suite, packages: first, lay: func(s *site, gen int) {
			if names[0] == inRelease && len(names) == 1 {
				s.archive.Delete(release)
				s.archive.Delete(signature)
			}
			again(s, gen, key, date(2), names...)
			if gen == 2 && len(names) == 1 && names[0] == signature {
				s.put(release, s.original, 1) // it stays as it is
			}
		}}
		if key != keyA {
			r.keys = otherKey
		} else {
			r.keys = [][]*testarchive.Key{{keyA}, {keyA}}
		}
		return r
	}
	in := one("InRelease signed by another key, same text", testarchive.Suite{}, keyB, inRelease)
	in.everywhere = true
	return []row{
		in,
		one("InRelease signed again by the same key, same text", testarchive.Suite{}, keyA, inRelease),
		one("Release.gpg alone by another key", testarchive.Suite{NoInRelease: true}, keyB, signature),
		one("pair signed by another key, same text", testarchive.Suite{NoInRelease: true}, keyB, release, signature),
		one("all three roots signed by another key, same text", testarchive.Suite{}, keyB, inRelease, release, signature),
	}
}

// lower signs so that the sum of the whole is below that of the root before: whoever takes two
// roots of one date for a fork might keep the one with the higher sum.
func lower(text []byte, at time.Time, key *testarchive.Key, before []byte) []byte {
	for {
		signed := testarchive.ClearSign(text, at, key)
		if testarchive.Sum(testarchive.SHA256, signed) < testarchive.Sum(testarchive.SHA256, before) {
			return signed
		}
		at = at.Add(time.Second)
	}
}

// kindsOfRoot are archives that have some of the three files only, or have others later.
func kindsOfRoot() []row {
	stale := row{name: "a pair of generation 1 for ever beside InRelease", lay: func(s *site, gen int) {
		if gen == 1 {
			s.put(release, s.rendered(release), 1)
			s.put(signature, s.rendered(signature), 1)
		}
	}}
	foreign := row{name: "a Release.gpg of nobody beside InRelease", lay: func(s *site, gen int) {
		s.put(signature, testarchive.DetachSign(s.rendered(release), date(gen), keyC), gen)
	}}
	lone := row{name: "a Release without Release.gpg beside InRelease", lay: func(s *site, _ int) { s.archive.Delete(signature) }}
	orphan := row{name: "a Release.gpg without Release beside InRelease", lay: func(s *site, _ int) { s.archive.Delete(release) }}
	appears := row{name: "InRelease appears in generation 2", lay: func(s *site, gen int) {
		s.archive.Restore(inRelease)
		if gen == 1 {
			s.archive.Delete(inRelease)
		}
	}}
	vanishes := row{name: "InRelease is gone in generation 2", lay: func(s *site, gen int) {
		if gen == 2 {
			s.archive.Delete(inRelease)
		}
	}}
	pairGone := row{name: "the pair is gone in generation 2", lay: func(s *site, gen int) {
		if gen == 2 {
			s.archive.Delete(release)
			s.archive.Delete(signature)
		}
	}}
	return []row{
		{name: "InRelease alone", suite: testarchive.Suite{NoRelease: true}},
		{name: "Release and Release.gpg alone", suite: testarchive.Suite{NoInRelease: true}, everywhere: true},
		{name: "all three roots", suite: testarchive.Suite{}},
		stale, foreign, lone, orphan, appears, vanishes, pairGone,
	}
}

// signatures are roots with odd armour, and with several signatures. gpgv and apt's own
// SplitClearSignedFile say what is read.
func signatures() []row {
	in := func(name string, change func(b []byte, gen int) []byte) row {
		return row{name: name, suite: testarchive.Suite{NoRelease: true}, lay: func(s *site, gen int) {
			s.put(inRelease, change(s.rendered(inRelease), gen), gen)
		}}
	}
	detached := func(name string, change func(b []byte, text []byte, gen int) []byte) row {
		return row{name: name, suite: testarchive.Suite{NoInRelease: true}, lay: func(s *site, gen int) {
			s.put(signature, change(s.rendered(signature), s.rendered(release), gen), gen)
		}}
	}
	signed := func(name string, host []*testarchive.Key, keys ...*testarchive.Key) row {
		r := row{name: name, keys: [][]*testarchive.Key{keys, keys}}
		r.trusts = host
		return r
	}
	armour := regexp.MustCompile(`(?s)-----BEGIN PGP SIGNATURE-----\n.*-----END PGP SIGNATURE-----\n?`)
	checksum := regexp.MustCompile(`\n=[A-Za-z0-9+/]{4}\n`)
	return []row{
		signed("two keys sign, the host knows the first", []*testarchive.Key{keyA}, keyA, keyB),
		signed("two keys sign, the host knows the second", []*testarchive.Key{keyB}, keyA, keyB),
		signed("two keys sign, the host knows both", []*testarchive.Key{keyA, keyB}, keyA, keyB),
		signed("a signing subkey", []*testarchive.Key{keySub}, keySub),
		{name: "the second of two keys signs in generation 2, the host knows both", keys: [][]*testarchive.Key{{keyA}, {keyB}}, trusts: []*testarchive.Key{keyA, keyB}},
		{name: "Signed-By names the fingerprint", trusts: []*testarchive.Key{keyA, keyB}, keys: [][]*testarchive.Key{{keyA}, {keyA}},
			sources: "deb [signed-by=" + keyA.Fingerprint() + "] URL noble main", trustedParts: true},
		{name: "Signed-By names a keyring twice", sources: "deb [signed-by=KEYRING,KEYRING] URL noble main"},
		refused(detached("Release.gpg without armour", func(b, text []byte, gen int) []byte {
			block := strings.Split(string(b), "\n\n")[1]
			block = block[:strings.LastIndex(block, "\n=")]
			raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(block, "\n", ""))
			if err != nil {
				panic(err)
			}
			return raw
		})),
		detached("Release.gpg of two blocks", func(b, text []byte, gen int) []byte {
			return append(b, testarchive.DetachSign(text, date(gen), keyB)...)
		}),
		refused(detached("Release.gpg with empty lines behind it", func(b, _ []byte, _ int) []byte { return append(b, "\n\n"...) })),
		refused(detached("Release.gpg with words before it", func(b, _ []byte, _ int) []byte { return append([]byte("made by hand\n"), b...) })),
		refused(detached("Release.gpg of another text", func(b, text []byte, gen int) []byte {
			return testarchive.DetachSign(append(bytes.Clone(text), 'x'), date(gen), testarchive.DefaultKey())
		})),
		in("InRelease with a Version in its armour", func(b []byte, _ int) []byte {
			return bytes.Replace(b, []byte("SIGNATURE-----\n\n"), []byte("SIGNATURE-----\nVersion: GnuPG v1\nComment: https://example.org/\n\n"), 1)
		}),
		in("InRelease without the armour's checksum", func(b []byte, _ int) []byte {
			return checksum.ReplaceAll(b, []byte("\n"))
		}),
		in("InRelease without a newline at its end", func(b []byte, _ int) []byte { return bytes.TrimRight(b, "\n") }),
		in("InRelease with line ends of DOS", func(b []byte, _ int) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }),
		in("InRelease with spaces at the ends of its lines", func(b []byte, _ int) []byte {
			return bytes.Replace(b, []byte("Testarchive\n"), []byte("Testarchive  \n"), 1)
		}),
		in("InRelease with two signature blocks", func(b []byte, gen int) []byte {
			text := bytes.TrimSpace(armour.ReplaceAll(b, nil))
			_, body, _ := bytes.Cut(text, []byte("\n\n"))
			more := testarchive.ClearSign(append(body, '\n'), date(gen), testarchive.DefaultKey())
			return append(b, armour.Find(more)...)
		}),
		refused(in("InRelease with an empty line at its end", func(b []byte, _ int) []byte { return append(b, '\n') })),
		refused(in("InRelease with an empty line before it", func(b []byte, _ int) []byte { return append([]byte("\n"), b...) })),
		refused(in("InRelease with words before it", func(b []byte, _ int) []byte { return append([]byte("hello\n"), b...) })),
		refused(in("InRelease with words behind it", func(b []byte, _ int) []byte { return append(b, "hello\n"...) })),
		refused(in("InRelease twice", func(b []byte, _ int) []byte { return append(b, b...) })),
		refused(in("InRelease altered", func(b []byte, _ int) []byte {
			return bytes.Replace(b, []byte("Label: "), []byte("Label: x"), 1)
		})),
		refused(row{name: "signed by a key that nobody knows", keys: [][]*testarchive.Key{{keyC}, {keyC}}, trusts: []*testarchive.Key{keyA}}),
	}
}
