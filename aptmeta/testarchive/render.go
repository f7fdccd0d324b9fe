package testarchive

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// generation is one published state of a suite; immutable once rendered. All
// paths are relative to the archive's root.
type generation struct {
	date      time.Time
	canonical map[string]File // indices and all that lives beside them
	byHash    map[string]File
	roots     map[string]File    // by base name: InRelease, Release, Release.gpg
	plain     map[string][]byte  // uncompressed Packages and Sources by member path, for pdiffs
	patches   map[string][]patch // by the same path
}

func compareListings(x, y listing) int {
	return cmp.Or(
		strings.Compare(x.Name, y.Name),
		strings.Compare(x.Version, y.Version),
		strings.Compare(x.Arch, y.Arch),
		strings.Compare(x.Component, y.Component))
}

// rendering is a generation in the making.
type rendering struct {
	*generation
	a        *Archive
	s        *suite
	previous *generation       // nil for the first
	listed   map[string][]byte // member path -> bytes, as the Release lists them
}

// render makes the next generation of a suite, and puts its packages in the pool.
func (a *Archive) render(s *suite, date time.Time) *generation {
	r := &rendering{a: a, s: s, listed: map[string][]byte{}, generation: &generation{
		date: date, canonical: map[string]File{}, byHash: map[string]File{}, roots: map[string]File{},
		plain: map[string][]byte{}, patches: map[string][]patch{},
	}}
	if n := len(s.generations); n > 0 {
		r.previous = s.generations[n-1]
	}
	for i := range s.packages {
		if s.packages[i].stanza == "" {
			s.packages[i].stanza = a.addToPool(s.Suite, s.packages[i].Package, date)
		}
	}
	r.indices()
	r.extras()
	r.sign(r.release())
	return r.generation
}

// indices adds Packages and Sources of every component and architecture.
func (r *rendering) indices() {
	s := r.s
	if s.Flat {
		r.index("Packages", r.stanzas("", func(l listing) bool { return !l.Source && !l.Udeb }), true)
		if r.has(isSource) {
			r.index("Sources", r.stanzas("", isSource), true)
		}
		return
	}
	for _, component := range slices.Concat(s.Components, s.ListedComponents) {
		for _, arch := range slices.Concat(s.Architectures, s.ListedArchitectures) {
			carried := slices.Contains(s.Components, component) && slices.Contains(s.Architectures, arch)
			dir := component + "/binary-" + arch
			wanted := func(l listing) bool {
				return l.Arch == arch || l.Arch == "all" && !s.allApart()
			}
			r.index(dir+"/Packages", r.stanzas(component, func(l listing) bool { return wanted(l) && !l.Udeb }), carried)
			if r.has(func(l listing) bool { return l.Udeb }) {
				r.index(component+"/debian-installer/binary-"+arch+"/Packages",
					r.stanzas(component, func(l listing) bool { return wanted(l) && l.Udeb }), carried)
			}
			if s.ComponentRelease {
				r.member(dir+"/Release", r.componentRelease(component, arch), []string{""}, carried)
			}
		}
		if r.has(isSource) {
			carried := slices.Contains(s.Components, component)
			r.index(component+"/source/Sources", r.stanzas(component, isSource), carried)
			if s.ComponentRelease {
				r.member(component+"/source/Release", r.componentRelease(component, "source"), []string{""}, carried)
			}
		}
	}
}

func (r *rendering) has(kind func(listing) bool) bool {
	return slices.ContainsFunc(r.s.packages, kind)
}

func isSource(l listing) bool { return l.Source }

// stanzas joins the stanzas of a component ("" for all) that keep wants.
func (r *rendering) stanzas(component string, keep func(listing) bool) []byte {
	var buf bytes.Buffer
	for _, l := range r.s.packages {
		if (component == "" || l.Component == component) && keep(l) {
			buf.WriteString(l.stanza)
			buf.WriteByte('\n')
		}
	}
	return buf.Bytes()
}

// index adds Packages or Sources, and its pdiffs.
func (r *rendering) index(path string, text []byte, carried bool) {
	if r.s.EditIndex != nil {
		text = []byte(r.s.EditIndex(path, string(text)))
	}
	r.member(path, text, r.s.Compressions, carried)
	r.plain[path] = text
	if (r.s.PDiffs || r.s.MergedPDiffs) && carried {
		r.pdiffs(path, text)
	}
}

// member adds a metadata file in the given compressions to what the Release
// lists, and to the server if it carries the file.
func (r *rendering) member(path string, text []byte, compressions []string, carried bool) {
	if !r.s.OmitPlain || slices.Contains(compressions, "") {
		r.listed[path] = text
	}
	for _, ext := range compressions {
		data := r.pack(ext, text)
		r.listed[path+ext] = data
		if !carried {
			continue
		}
		f := newFile(data, r.date)
		r.canonical[r.s.At(path+ext)] = f
		if r.s.ByHash {
			dir := path[:strings.LastIndexByte(path, '/')+1]
			for _, hash := range r.s.Hashes {
				r.byHash[r.s.At(dir+"by-hash/"+hash+"/"+Sum(hash, data))] = f
			}
		}
	}
}

// pack compresses an index, as the suite says or as usual.
func (r *rendering) pack(ext string, text []byte) []byte {
	if r.s.Pack != nil {
		if data := r.s.Pack(ext, text); data != nil {
			return data
		}
	}
	return r.a.packed.compress(ext, text)
}

func (r *rendering) componentRelease(component, arch string) []byte {
	return fmt.Appendf(nil, "Archive: %s\nOrigin: %s\nLabel: %s\nAcquire-By-Hash: %s\nComponent: %s\nArchitecture: %s\n",
		r.s.Codename, r.s.Origin, r.s.Label, yes(r.s.ByHash), component, arch)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// release writes the text of the Release.
func (r *rendering) release() []byte {
	s := r.s
	var buf bytes.Buffer
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&buf, "%s: %s\n", name, value)
		}
	}
	field("Origin", s.Origin)
	field("Label", s.Label)
	field("Suite", s.Codename)
	field("Version", s.Version)
	field("Codename", s.Codename)
	if !s.NoDate {
		field("Date", releaseDate(r.date))
	}
	if s.ValidFor != 0 {
		field("Valid-Until", releaseDate(r.date.Add(s.ValidFor)))
	}
	if s.ByHash {
		field("Acquire-By-Hash", "yes")
	}
	field("Architectures", strings.Join(slices.Concat(s.Architectures, s.ListedArchitectures), " "))
	if !s.Flat {
		var names []string
		for _, c := range slices.Concat(s.Components, s.ListedComponents) {
			names = append(names, s.ComponentPrefix+c)
		}
		field("Components", strings.Join(names, " "))
	}
	field("Description", "made for tests")
	for _, line := range s.Fields {
		buf.WriteString(line + "\n")
	}
	paths := sortedKeys(r.listed)
	for _, hash := range s.Hashes {
		buf.WriteString(hash + ":\n")
		for _, path := range paths {
			fmt.Fprintf(&buf, " %s %16d %s\n", Sum(hash, r.listed[path]), len(r.listed[path]), path)
		}
	}
	if s.Edit != nil {
		return []byte(s.Edit(buf.String()))
	}
	return buf.Bytes()
}

// sign makes the roots from the text of the Release.
func (r *rendering) sign(text []byte) {
	s := r.s
	add := func(name string, data []byte) { r.roots[name] = newFile(data, r.date) }
	if s.Unsigned {
		add("Release", text)
		return
	}
	inRelease, signature := ClearSign(text, r.date, s.Keys...), DetachSign(text, r.date, s.Keys...)
	if s.Forged {
		forge := func(b []byte) []byte {
			return bytes.Replace(b, []byte("\nLabel: "), []byte("\nLabel: X"), 1)
		}
		inRelease, text = forge(inRelease), forge(text)
	}
	if !s.NoInRelease {
		add("InRelease", inRelease)
	}
	if !s.NoRelease {
		add("Release", text)
		add("Release.gpg", signature)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
