package proto

// Captured is a suite at one moment: all that it takes to answer for it again.
type Captured struct {
	Generation
	// Indexes are the members that clients used at that moment, by Path in ascending order.
	Indexes []Captive `json:"indexes,omitempty"`
	// Unsigned says that no signature vouched for the root.
	Unsigned bool `json:"unsigned,omitempty"`
}

// Captive is a member that is kept with the root which lists it.
type Captive struct {
	Path string `json:"path"` // below the suite's directory
	Ref  Ref    `json:"ref"`
}

// Blobs are the contents that must stay stored, in no order.
func (c Captured) Blobs() []Ref {
	refs := []Ref{c.Root}
	for _, companion := range c.Companions {
		if !companion.Ref.IsZero() {
			refs = append(refs, companion.Ref)
		}
	}
	for _, index := range c.Indexes {
		if !index.Ref.IsZero() {
			refs = append(refs, index.Ref)
		}
	}
	return refs
}

// Listing is a captured suite with the indexes of packages that its root lists.
type Listing struct {
	Captured
	Manifest *Manifest
	// Indexes are all of them, in all compressions, in the order of Manifest.Members. Of one that the
	// captured suite has among its Indexes, clients used the packages.
	Indexes []PackageIndex
}

// Object is what it takes to obtain a member of the suite.
func (l *Listing) Object(m *Member) ObjectRequest {
	names := make([]Location, 0, len(m.Upstream)+1)
	for _, name := range m.Upstream {
		names = append(names, l.Suite.At(name))
	}
	if len(names) == 0 {
		names = append(names, l.Suite.At(m.Path))
	}
	return ObjectRequest{Ref: m.Ref, SHA512: m.SHA512, Where: WhereOf(names), Class: ClassMetadata, Base: l.Base}
}

// Missing is a file that belongs to a snapshot and could not be had.
type Missing struct {
	Location Location
	Err      error
}

// SnapshotNews is what two nodes tell each other of snapshots and channels. Nothing of it is believed:
// records are proven by the sums that names have for them, and roots by the archive's signature.
type SnapshotNews struct {
	// Names are all names, as node/snapshot/names writes them. Away says why they may be out of date.
	Names []byte
	Away  Absence
	// Wanted are records that the sender lacks, by their SHA-256 in hex; Records those that it was asked for.
	Wanted  []string
	Records [][]byte
}

// Absence is how far a node has not heard of the others: of two nodes, the one with the lower Absence knows better.
type Absence uint8

// The degrees of Absence.
const (
	Present Absence = iota
	CutOff          // it has run all the time, and reached nobody for long
	WasOff          // it was off for long, or is new
)
