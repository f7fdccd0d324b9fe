package proto

import "time"

// Form is one way in which an archive publishes the root of a suite: files of one directory that
// belong together. One mirror must give all of them, because a publisher replaces them one after
// the other.
type Form struct {
	// Files are the names below the suite's directory. The first one says what the suite holds;
	// the others vouch for it.
	Files []RootFile
	// Witness is the URL of a document that names the root from outside the archive, such as a
	// metalink; "" for none. A node reads it whenever it reads the root from a mirror, and gives it
	// to the format as WitnessFile. It is no file of the archive: no client gets it.
	Witness string
}

// WitnessFile is the name by which a format finds the document of Form.Witness among the files of
// a root. No file of an archive has it.
const WitnessFile = ":witness"

// RootFile is one file of a Form.
type RootFile struct {
	Name string
	// Optional says that the form is complete without the file. Whether what is left can be
	// trusted is for the format to decide.
	Optional bool
	// MaxBytes bounds the file. The client's own limit, where it has one.
	MaxBytes int64
}

// Companion is a file that belongs to the root of a generation: a signature beside the root, or
// the same statement in another form (signed apart).
type Companion struct {
	Name string `json:"name"` // below the suite's directory
	// Ref is zero while nobody knows whether upstream has the file, and with which content: upstream
	// could not be asked for it in time. It is a file that the root can do without.
	Ref Ref `json:"ref"`
	// Modified is upstream's Last-Modified; zero where it gave none. Whole seconds, UTC.
	Modified time.Time `json:"modified,omitzero"`
	// Proof says that the root cannot be verified without the file: a signature beside it.
	Proof bool `json:"proof,omitempty"`
	// Stray says that the file makes another statement than the root, and goes on doing so:
	// upstream keeps an old form beside the one that it goes on with. It is trusted by itself, and
	// never announced to other nodes.
	Stray bool `json:"stray,omitempty"`
}

// Known reports whether the content is known.
func (c Companion) Known() bool { return !c.Ref.IsZero() }

// Manifest is what a root says, once its format has verified and read it. It is never changed
// after that, and safe to share.
type Manifest struct {
	// Statement identifies what is said, whichever way it is signed and spaced: two roots with one
	// Statement are the same generation.
	Statement Digest
	// Date orders the generations of a suite; zero where the root has none, or none that can be
	// read. Whole seconds, UTC.
	Date time.Time
	// Signed is when the newest good signature was made, by the signer's clock: it orders two
	// roots with one Statement. Zero where nothing is signed.
	Signed time.Time
	// Proven says that a key of the archive's keyring vouches for the root, or a Witness that was
	// read together with it. What is not proven is not taken on another node's word.
	Proven bool
	// Superseded says that the Witness names another root as the current one, and this only as one that
	// mirrors may still have.
	Superseded bool
	// Torn is the name of a signature beside a root that no key vouches for, where it was made for
	// other bytes than those of the root: the two are of different publications. "" where they may
	// belong together.
	Torn string
	// Signer names the signer, for people; "" for none.
	Signer string
	// KeyExpires is when clients begin to refuse the root, because no signature of it counts any more: they
	// or their keys have expired. Zero for never, and where nothing is signed.
	KeyExpires time.Time
	// ValidUntil is when clients begin to refuse the root for its age; zero for never.
	ValidUntil time.Time
	Names      Names
	// Security says that the suite carries security updates.
	Security bool
	// Members are the files that the root lists, by Path in ascending order, each Path once.
	Members []Member
	// Oddities are entries that were passed over because nobody could make sense of them, and what
	// makes newer clients refuse the root, a
	// sentence each, bounded in number. They cost nothing except what they would have listed.
	Oddities []string
	// Detail is for the format alone.
	Detail any
}

// Names is what a root calls its suite. All may be empty. They are compared by a format (Belongs):
// Architectures, for one, changes while the suite stays what it is.
type Names struct {
	Origin   string `json:"origin,omitempty"`
	Label    string `json:"label,omitempty"`
	Suite    string `json:"suite,omitempty"`
	Codename string `json:"codename,omitempty"`
	// Architectures are those that the suite has packages for, in order, with a space between.
	Architectures string `json:"architectures,omitempty"`
}

// Member is a file that a root lists.
type Member struct {
	Path string // below the suite's directory, canonical
	// Slot is a name of the member that survives publications: what clients use is remembered by
	// it. It is Path where names do not change from one generation to the next. "" is the root itself,
	// where that is an index as well: it comes with every generation, whoever uses it.
	Slot string
	// Ref has a zero Digest where the root lists no SHA-256.
	Ref    Ref
	SHA512 SHA512
	// Keys are the beginnings of all sums that the root lists, strong or weak: each makes a name by
	// which a client may ask for the member.
	Keys []HashKey
	// Upstream are the names below the suite's directory by which a mirror keeps the member, the
	// one that is right at any moment of a publication first.
	Upstream []string
	// Plain is the Path that the member has without compression, equal for all its compressions.
	Plain string
	// PlainSize is the size in bytes that the root lists for Plain; UnknownSize where it lists
	// none.
	PlainSize int64
	// Table identifies what the member lists: two members of an archive with one Table list the
	// same files. "" for a member that lists nothing.
	Table string
	// Packages says that the files which the member lists are packages that clients install.
	Packages bool
	// Needed says that the suite is of no use to clients that want this member and cannot have it.
	// The others are waited for with patience only.
	Needed bool
}

// Provable reports whether bytes can be checked against the root.
func (m *Member) Provable() bool { return !m.Ref.IsZero() || m.SHA512 != SHA512{} }

// Lists reports whether the member is an index that lists files.
func (m *Member) Lists() bool { return m.Table != "" }

// Place is where a member stands in its suite: what operators choose it by.
type Place struct {
	// Component is the part of the suite that it belongs to; "" for all of it.
	Component string
	// Arch is the architecture of the hosts that use it; "" for all, ArchSource for an index of source packages.
	Arch string
	// Installer says that it belongs to an installer and not to the packages.
	Installer bool
	// Delta says that what it lists only turns one version of a file into another.
	Delta bool
	// Spare says that clients go on without it at no more cost than a larger download.
	Spare bool
}

// ArchSource stands for source packages among architectures.
const ArchSource = "source"

// HashKind is a kind of checksum by which files are named. The zero HashKind is none.
type HashKind uint8

// The kinds of sums, weakest first. The first two prove nothing.
const (
	HashMD5 HashKind = iota + 1
	HashSHA1
	HashSHA256
	HashSHA512
)

// HashKey is the beginning of a sum: enough to distinguish the members of a suite.
type HashKey struct {
	Kind HashKind
	Sum  [16]byte
}

// HashName is a file name that is made of the sum of the file's content.
type HashName struct {
	Kind HashKind
	Sum  [64]byte // only as many bytes as Kind has
}

// Key is how members are found by the name.
func (h HashName) Key() HashKey { return HashKey{h.Kind, [16]byte(h.Sum[:16])} }

// Names reports whether the name is that of the member to its end. Of a weak sum only the Key
// counts: it proves nothing either way.
func (h HashName) Names(m *Member) bool {
	switch h.Kind {
	case HashSHA256:
		return m.Ref.Digest == Digest(h.Sum[:32])
	case HashSHA512:
		return m.SHA512 == SHA512(h.Sum[:])
	}
	return true
}

// Proof is what a name alone says of the bytes under it.
type Proof uint8

// The proofs, weakest first.
const (
	ProofNone Proof = iota // nothing
	ProofHint              // what the bytes should be; when they differ, the name was no promise
	ProofSure              // what the bytes are, wherever they come from
)

// PathInfo is what the path of a file alone says, whether or not the file exists.
type PathInfo struct {
	// FirstByte is how long clients wait for the first byte before they take the whole host for
	// failed; zero for longer than anything here takes.
	FirstByte time.Duration
	// Kind is a word of the format for logs and for people: "root", "index", "package", ….
	Kind string
	// Root says that it is a file of a suite's root.
	Root bool
	// Package says that clients install it.
	Package bool
	// Index says that it is metadata that clients check against a suite's root.
	Index bool
	// Class orders requests for it. A name that proves nothing is never metadata.
	Class Class
	// Immutable says that what is stored under the name never changes.
	Immutable bool
	// ContentType is the Content-Type for clients, whatever upstream says.
	ContentType string
	// Page says that an HTML page under the name can be the true content. Replicated one is a login
	// page, or an error page with the wrong status.
	Page bool
	// Hash is set where the name is made of a sum, and Proof says what that is worth.
	Hash  HashName
	Proof Proof
	// NoCacheByHabit says that clients send no-cache with every request for the root. It means no
	// more than a plain request then: a root that was checked within the interval of checks will do.
	NoCacheByHabit bool
	// Probed says that clients ask whether there is such a root: that upstream has none is no failure.
	Probed bool
	// Hold is how long a request is held back and tried again, in place of an error that may pass:
	// clients of the format do not come back after a Retry-After. 0 where they do.
	Hold time.Duration
	// DropsAt416 says that clients that go on with a file drop what they have of it at a 416, and keep
	// it at a 200.
	DropsAt416 bool
}

// File is a file that an index lists.
type File struct {
	// Path is canonical and begins at the archive's root. It is valid until the callback that got
	// it returns: copy what must stay.
	Path []byte
	// Size is in bytes, UnknownSize if the index does not say it.
	Size int64
	// SHA256 and SHA512 are zero where the index does not list them.
	SHA256 Digest
	SHA512 SHA512
	// Outside is the URL of a file that the index lists outside of its archive; then Path is empty.
	// It is valid as long as Path is.
	Outside []byte
}

// Belonging is how far a trusted root is one of a given suite.
type Belonging uint8

// The degrees of Belonging.
const (
	// BelongsNo: it says that it is of another suite.
	BelongsNo Belonging = iota
	// BelongsUnsure: its names neither fit nor exclude the suite, or they have changed. One source
	// is not enough.
	BelongsUnsure
	// BelongsYes: it says that it is of this suite, or goes on as before.
	BelongsYes
)

func (b Belonging) String() string { return [...]string{"no", "unsure", "yes"}[b] }
