package differential

import (
	"regexp"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// firstDigits begin the entries of a Release.
var firstDigits = regexp.MustCompile(`(?m)^ [0-9a-f]{4}`)

// trust are archives without a signature that hosts take because they are told to.
func trust() []row {
	const trusted = "deb [trusted=yes] URL noble main"
	unsigned := testarchive.Suite{Unsigned: true}
	// What nobody lists is looked at every 30 s.
	const unlisted = 45 * time.Second
	noRelease := row{name: "no Release at all, trusted=yes", sources: trusted, node: "unsigned: true", suite: unsigned,
		odd: func(_ int, s *testarchive.Suite) { s.Compressions = []string{".gz", ""} },
		lay: func(s *site, _ int) { s.archive.Delete(release) }, watch: []string{"/dists/noble/" + packages, "/dists/noble/" + packages + ".gz"}, patience: unlisted}
	flat := row{name: "flat, no Release at all, trusted=yes", sources: "deb [trusted=yes] URL ./", node: "unsigned: true",
		suite: testarchive.Suite{Flat: true, Unsigned: true, Compressions: []string{".gz", ""}},
		lay:   func(s *site, _ int) { s.archive.Delete("Release") }, watch: []string{"/Packages", "/Packages.gz"}, patience: unlisted}
	signedLater := row{name: "signed only in generation 2, trusted=yes", sources: trusted, node: "unsigned: true",
		odd: func(gen int, s *testarchive.Suite) { s.Unsigned = gen == 1 }}
	unsignedLater := row{name: "signed only in generation 1, trusted=yes", sources: trusted, node: "unsigned: true",
		settings: []string{`Acquire::AllowDowngradeToInsecureRepositories "true";`},
		odd:      func(gen int, s *testarchive.Suite) { s.Unsigned = gen == 2 }}
	agrees := []string{`Acquire::AllowWeakRepositories "true";`, `Acquire::AllowInsecureRepositories "true";`, `APT::Get::AllowUnauthenticated "true";`}
	// An unsigned Release with sums of other bytes: apt may do without a signature, but not without the right bytes.
	otherSums := refused(row{name: "unsigned, with sums of other bytes, allow-insecure=yes, and the node has keys", sources: "deb [allow-insecure=yes] URL noble main",
		settings: []string{`APT::Get::AllowUnauthenticated "true";`}, suite: unsigned, odd: func(_ int, s *testarchive.Suite) {
			s.Edit = func(text string) string { return firstDigits.ReplaceAllString(text, " 0123") }
		}})
	strong := []string{testarchive.SHA256}
	nothing := []string{}
	weak := func(name string, hashes ...string) row {
		return row{name: name, sources: trusted, node: "unsigned: true",
			settings: agrees,
			suite:    testarchive.Suite{Unsigned: true, Hashes: hashes, IndexHashes: strong}}
	}
	weakSigned := func(name string, hashes ...string) row {
		return row{name: name, settings: agrees,
			suite: testarchive.Suite{Hashes: hashes, IndexHashes: strong}, debs: nothing, srcs: nothing}
	}
	return []row{
		{name: "unsigned, trusted=yes", sources: trusted, node: "unsigned: true", suite: unsigned},
		{name: "unsigned, allow-insecure=yes", sources: "deb [allow-insecure=yes] URL noble main", node: "unsigned: true", suite: unsigned,
			settings: []string{`APT::Get::AllowUnauthenticated "true";`}},
		{name: "unsigned, InRelease is a plain Release, trusted=yes", sources: trusted, node: "unsigned: true", suite: unsigned,
			lay: func(s *site, gen int) { s.put(inRelease, s.rendered(release), gen) }},
		{name: "signed by a key that nobody knows, trusted=yes", sources: trusted, node: "unsigned: true", keys: [][]*testarchive.Key{{keyC}, {keyC}}, trusts: []*testarchive.Key{keyA}},
		noRelease, flat, signedLater, unsignedLater, otherSums,
		weak("unsigned with MD5Sum alone", testarchive.MD5Sum),
		weak("unsigned with SHA1 alone", testarchive.SHA1),
		weakSigned("MD5Sum alone, the host agrees", testarchive.MD5Sum),
		weakSigned("SHA1 alone, the host agrees", testarchive.SHA1),
		weakSigned("MD5Sum and SHA1 alone, the host agrees", testarchive.MD5Sum, testarchive.SHA1),
		{name: "SHA512 alone", suite: testarchive.Suite{Hashes: []string{testarchive.SHA512}}, sources: debSrc},
		{name: "SHA512 alone by hash", suite: testarchive.Suite{Hashes: []string{testarchive.SHA512}, ByHash: true}},
		{name: "SHA256 alone", suite: testarchive.Suite{Hashes: []string{testarchive.SHA256}}, sources: debSrc},
		{name: "MD5Sum and SHA512", suite: testarchive.Suite{Hashes: []string{testarchive.MD5Sum, testarchive.SHA512}}, sources: debSrc},
		{name: "all four sums", suite: testarchive.Suite{Hashes: []string{testarchive.MD5Sum, testarchive.SHA1, testarchive.SHA256, testarchive.SHA512}}, sources: debSrc},
		{name: "Release with SHA256, packages with SHA512", suite: testarchive.Suite{Hashes: []string{testarchive.SHA256}, IndexHashes: []string{testarchive.SHA512}}, sources: debSrc},
		{name: "Release with SHA512, packages with SHA256", suite: testarchive.Suite{Hashes: []string{testarchive.SHA512}, IndexHashes: []string{testarchive.SHA256}}, sources: debSrc},
	}
}
