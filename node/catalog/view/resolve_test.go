package view

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// member lists content under a path, with names made of its sums announced for byHash.
func member(path, content string, byHash bool) proto.Member {
	m := proto.Member{Path: path, Slot: path, Plain: strings.TrimSuffix(path, ".xz"), Ref: ref(content), SHA512: sha512.Sum512([]byte(content))}
	for _, k := range []proto.HashKind{proto.HashMD5, proto.HashSHA1, proto.HashSHA256, proto.HashSHA512} {
		h := hashName(k, content)
		m.Keys = append(m.Keys, h.Key())
	}
	if byHash {
		m.Upstream = []string{hashPath(path, proto.HashSHA512, content), path}
	}
	return m
}

func strongOnly(path, content string) proto.Member {
	m := member(path, content, false)
	m.Ref.Digest = proto.Digest{}
	return m
}

func hashName(k proto.HashKind, content string) proto.HashName {
	h := proto.HashName{Kind: k}
	switch k {
	case proto.HashMD5:
		s := md5.Sum([]byte(content))
		copy(h.Sum[:], s[:])
	case proto.HashSHA1:
		s := sha1.Sum([]byte(content))
		copy(h.Sum[:], s[:])
	case proto.HashSHA256:
		s := proto.DigestOf([]byte(content))
		copy(h.Sum[:], s[:])
	case proto.HashSHA512:
		s := sha512.Sum512([]byte(content))
		copy(h.Sum[:], s[:])
	}
	return h
}

// hashPath is the name beside path that is made of a sum.
func hashPath(path string, k proto.HashKind, content string) string {
	h := hashName(k, content)
	n := map[proto.HashKind]int{proto.HashMD5: 16, proto.HashSHA1: 20, proto.HashSHA256: 32, proto.HashSHA512: 64}[k]
	kind := map[proto.HashKind]string{proto.HashMD5: "MD5Sum", proto.HashSHA1: "SHA1", proto.HashSHA256: "SHA256", proto.HashSHA512: "SHA512"}[k]
	return path[:strings.LastIndexByte(path, '/')+1] + "by-hash/" + kind + "/" + hex.EncodeToString(h.Sum[:n])
}

// infoOf reads by-hash names as a format would.
func infoOf(path string) *proto.PathInfo {
	var info proto.PathInfo
	parts := strings.Split(path, "/")
	if n := len(parts); n >= 3 && parts[n-3] == "by-hash" {
		sum, err := hex.DecodeString(parts[n-1])
		kind := map[string]proto.HashKind{"MD5Sum": proto.HashMD5, "SHA1": proto.HashSHA1, "SHA256": proto.HashSHA256, "SHA512": proto.HashSHA512}[parts[n-2]]
		if err == nil && kind != 0 {
			info.Hash.Kind = kind
			copy(info.Hash.Sum[:], sum)
		}
	}
	return &info
}

func gen(dir string, age int, members ...proto.Member) *Generation {
	slices.SortFunc(members, func(a, b proto.Member) int { return strings.Compare(a.Path, b.Path) })
	root := ref(dir + string(rune('a'+age)))
	g := proto.Generation{Suite: proto.Suite{Archive: "a", Dir: dir}, Date: day.AddDate(0, 0, -age), Root: root}
	return NewGeneration(g, &proto.Manifest{Date: g.Date, Members: members},
		proto.Companion{Name: "InRelease", Ref: root, Modified: g.Date}, proto.Companion{Name: "Release", Ref: ref("release"), Modified: g.Date.Add(time.Second)})
}

var roots = []string{"InRelease", "Release", "Release.gpg"}

func suite(current *Generation, retained ...*Generation) *Suite {
	for i, g := range retained {
		all := make(map[string]Staged)
		for j := range g.Manifest.Members {
			all[g.Manifest.Members[j].Path] = Staged{Ref: g.Manifest.Members[j].Ref}
		}
		retained[i] = g.WithAllStaged(all).Retained(day)
	}
	return &Suite{ID: current.Suite, Roots: roots, Current: current, Retained: retained}
}

func loc(path string) proto.Location { return proto.Location{Archive: "a", Path: path} }

// What a location is in an archive with everything odd in it.
func TestResolve(t *testing.T) {
	const pk, pkXZ, empty = "main/binary-amd64/Packages", "main/binary-amd64/Packages.xz", "empty/binary-amd64/Packages"
	weak := proto.Member{Path: "weak", Ref: proto.Ref{Size: 3}, Keys: member("weak", "w", false).Keys}
	src := memLists{
		"now": fileOf(t, listOf(t, file("pool/x.deb", "x"), file("pool/two.deb", "1"), strongFile("pool/strong.deb", "s"), file("dists/noble/"+pk, "listed"), file("dists/noble/gone", "by index"))),
		"too": fileOf(t, listOf(t, file("pool/two.deb", "2"))),
		"old": fileOf(t, listOf(t, file("pool/x.deb", "old"), file("pool/old.deb", "o"), file("dists/noble/only-old", "no"))),
	}
	noble := suite(
		gen("dists/noble", 0, member(pk, "new", true), member(pkXZ, "new.xz", true), strongOnly("strong", "s"), weak,
			member("plain/only", "p", false), member("nested/outer", "outer", false), member("nested/both", "1", false), member("nested/Release", "listed", false),
			member("main/binary-amd64/Empty", "", false), member(empty, "", false)),
		gen("dists/noble", 1, member(pk, "old", true), member("gone", "gone", false), member("weak", "w", false), member("only-old", "oo", false)),
		gen("dists/noble", 2, member(pk, "older", true), member("gone", "gone before", false)),
	)
	nested := suite(gen("dists/noble/nested", 3, member("both", "2", false), member("inner", "inner", false)),
		gen("dists/noble/nested", 4, member("outer", "retained", false)))
	flat := suite(gen("", 5, member("Packages", "flat", false), member("dists/noble/plain/only", "p", false)))
	a := BuildArchive("a", []*Suite{noble, nested, flat, {ID: proto.Suite{Archive: "a", Dir: "pool"}}}, tableOf(t, src, []string{"now", "too"}, []string{"old"}))
	v := BuildView(a, BuildArchive("other", nil, nil))

	type want struct {
		ref     proto.Ref
		others  []proto.Ref
		sha512  string // of this content, and no SHA-256
		where   []string
		mutable bool
		age     int // of the generation in days; -1 for none
		suite   string
		member  string
		root    string
		byHash  bool
		old     bool // a retained generation answers
		class   proto.Class
		not     bool
	}
	dir := "dists/noble/"
	at := func(path string) string { return dir + path }
	sha := func(path string, k proto.HashKind, c string) string { return dir + hashPath(path, k, c) }
	for name, tt := range map[string]struct {
		path string
		want want
	}{
		"a package":        {"pool/x.deb", want{ref: ref("x"), where: []string{"pool/x.deb"}, age: -1, class: proto.ClassPackage}},
		"listings differ":  {"pool/two.deb", want{ref: ref("1"), others: []proto.Ref{ref("2")}, where: []string{"pool/two.deb"}, mutable: true, age: -1, class: proto.ClassPackage}},
		"SHA-512 only":     {"pool/strong.deb", want{ref: proto.Ref{Size: 1}, sha512: "s", where: []string{"pool/strong.deb"}, age: -1, class: proto.ClassPackage}},
		"a package gone":   {"pool/old.deb", want{ref: ref("o"), where: []string{"pool/old.deb"}, age: -1, class: proto.ClassPackage}},
		"nobody lists it":  {"pool/none.deb", want{not: true}},
		"outside, unknown": {"none", want{not: true}},

		"the root":                     {at("InRelease"), want{ref: noble.Current.Root, where: []string{at("InRelease")}, mutable: true, suite: "dists/noble", root: "InRelease"}},
		"its companion":                {at("Release"), want{ref: ref("release"), where: []string{at("Release")}, mutable: true, suite: "dists/noble", root: "Release"}},
		"a form that it does not have": {at("Release.gpg"), want{not: true, suite: "dists/noble", root: "Release.gpg"}},
		"the root of a flat archive":   {"InRelease", want{ref: flat.Current.Root, where: []string{"InRelease"}, mutable: true, age: 5, root: "InRelease"}},
		"a nested root, though listed": {at("nested/Release"), want{ref: ref("release"), where: []string{at("nested/Release")}, mutable: true, age: 3, suite: "dists/noble/nested", root: "Release"}},

		"an index": {at(pkXZ), want{ref: ref("new.xz"), where: []string{sha(pkXZ, proto.HashSHA512, "new.xz"), at(pkXZ)}, mutable: true, suite: "dists/noble", member: pkXZ}},
		"an index that another index lists differently": {at(pk), want{ref: ref("new"), others: []proto.Ref{ref("listed")}, where: []string{sha(pk, proto.HashSHA512, "new"), at(pk)}, mutable: true, suite: "dists/noble", member: pk}},
		"without by-hash":          {at("plain/only"), want{ref: ref("p"), where: []string{at("plain/only")}, mutable: true, suite: "dists/noble", member: "plain/only"}},
		"listed by SHA-512 alone":  {at("strong"), want{ref: proto.Ref{Size: 1}, sha512: "s", where: []string{at("strong")}, mutable: true, suite: "dists/noble", member: "strong"}},
		"that no strong sum lists": {at("weak"), want{not: true, suite: "dists/noble"}},
		"of a flat archive":        {"Packages", want{ref: ref("flat"), where: []string{"Packages"}, mutable: true, age: 5, member: "Packages"}},

		"by MD5":                             {sha(pk, proto.HashMD5, "new"), want{ref: ref("new"), where: []string{sha(pk, proto.HashMD5, "new"), sha(pk, proto.HashSHA512, "new"), at(pk)}, suite: "dists/noble", member: pk, byHash: true}},
		"by SHA-1":                           {sha(pk, proto.HashSHA1, "new"), want{ref: ref("new"), where: []string{sha(pk, proto.HashSHA1, "new"), sha(pk, proto.HashSHA512, "new"), at(pk)}, suite: "dists/noble", member: pk, byHash: true}},
		"by SHA-256":                         {sha(pk, proto.HashSHA256, "new"), want{ref: ref("new"), where: []string{sha(pk, proto.HashSHA256, "new"), sha(pk, proto.HashSHA512, "new"), at(pk)}, suite: "dists/noble", member: pk, byHash: true}},
		"by SHA-512":                         {sha(pk, proto.HashSHA512, "new"), want{ref: ref("new"), where: []string{sha(pk, proto.HashSHA512, "new"), at(pk)}, suite: "dists/noble", member: pk, byHash: true}},
		"by hash, unannounced":               {sha("plain/only", proto.HashSHA256, "p"), want{ref: ref("p"), where: []string{sha("plain/only", proto.HashSHA256, "p"), at("plain/only")}, suite: "dists/noble", member: "plain/only", byHash: true}},
		"by the hash of SHA-512 alone":       {sha("strong", proto.HashSHA1, "s"), want{ref: proto.Ref{Size: 1}, sha512: "s", where: []string{sha("strong", proto.HashSHA1, "s"), at("strong")}, suite: "dists/noble", member: "strong", byHash: true}},
		"by the hash of what nothing proves": {sha("weak", proto.HashMD5, "w"), want{ref: ref("w"), where: []string{sha("weak", proto.HashMD5, "w"), at("weak")}, suite: "dists/noble", member: "weak", byHash: true, age: 1, old: true}},
		"by a hash of no member":             {sha(pk, proto.HashSHA256, "who"), want{not: true, suite: "dists/noble"}},
		"equal members, this one":            {sha(empty, proto.HashSHA256, ""), want{ref: ref(""), where: []string{sha(empty, proto.HashSHA256, ""), at(empty)}, suite: "dists/noble", member: empty, byHash: true}},
		"equal members, that one":            {sha("main/binary-amd64/Empty", proto.HashMD5, ""), want{ref: ref(""), where: []string{sha("main/binary-amd64/Empty", proto.HashMD5, ""), at("main/binary-amd64/Empty")}, suite: "dists/noble", member: "main/binary-amd64/Empty", byHash: true}},
		"by hash, of no member's directory":  {sha("x/y", proto.HashSHA256, "p"), want{ref: ref("p"), where: []string{sha("x/y", proto.HashSHA256, "p"), at("plain/only")}, suite: "dists/noble", member: "plain/only", byHash: true}},

		"retained, by hash":                               {sha(pk, proto.HashSHA256, "old"), want{ref: ref("old"), where: []string{sha(pk, proto.HashSHA256, "old"), sha(pk, proto.HashSHA512, "old"), at(pk)}, suite: "dists/noble", member: pk, byHash: true, age: 1, old: true}},
		"retained longer, by hash":                        {sha(pk, proto.HashMD5, "older"), want{ref: ref("older"), where: []string{sha(pk, proto.HashMD5, "older"), sha(pk, proto.HashSHA512, "older"), at(pk)}, suite: "dists/noble", member: pk, byHash: true, age: 2, old: true}},
		"retained, by a name that a current index lists":  {at("gone"), want{ref: ref("by index"), where: []string{at("gone")}, age: -1, class: proto.ClassPackage}},
		"retained, by a name that a retained index lists": {at("only-old"), want{ref: ref("oo"), where: []string{at("only-old")}, mutable: true, suite: "dists/noble", member: "only-old", age: 1, old: true}},

		"a nested suite's own":                    {at("nested/inner"), want{ref: ref("inner"), where: []string{at("nested/inner")}, mutable: true, age: 3, suite: "dists/noble/nested", member: "inner"}},
		"what a nested suite must not hide":       {at("nested/outer"), want{ref: ref("outer"), where: []string{at("nested/outer")}, mutable: true, suite: "dists/noble", member: "nested/outer"}},
		"two suites list it differently":          {at("nested/both"), want{ref: ref("2"), others: []proto.Ref{ref("1")}, where: []string{at("nested/both")}, mutable: true, age: 3, suite: "dists/noble/nested", member: "both"}},
		"by the hash of an outer suite's, nested": {dir + hashPath("nested/x", proto.HashSHA256, "outer"), want{ref: ref("outer"), where: []string{dir + hashPath("nested/x", proto.HashSHA256, "outer"), at("nested/outer")}, suite: "dists/noble", member: "nested/outer", byHash: true}},
		"unknown, in a nested suite":              {at("nested/who"), want{not: true, suite: "dists/noble/nested"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := proto.Resolution{Stale: "left over", Object: proto.ObjectRequest{Others: []proto.Ref{ref("left over")}, PeersOnly: true}}
			d, ok := v.Resolve(&e, loc(tt.path), infoOf(tt.path))
			w := tt.want
			if ok == w.not || d.Err != nil || d.Root != w.root {
				t.Fatalf("%v: %+v, demand %+v", ok, e, d)
			}
			if got := d.Suite; w.suite != "" && (got == nil || got.ID.Dir != w.suite) {
				t.Errorf("of suite %+v, want %s", got, w.suite)
			}
			if w.not {
				return
			}
			if d.Member == nil && w.member != "" || d.Member != nil && d.Member.Path != w.member || d.BySum != w.byHash {
				t.Errorf("demand %+v", d)
			}
			if w.age >= 0 && (d.Generation == nil || !d.Generation.Date.Equal(e.Generation) || d.Current == w.old) {
				t.Errorf("demand %+v", d)
			}
			var where []string
			for l := range e.Object.Where.All() {
				if l.Archive != "a" {
					t.Errorf("at %v", l)
				}
				where = append(where, l.Path)
			}
			date := day.AddDate(0, 0, -w.age)
			if w.age < 0 {
				date = time.Time{}
			}
			switch {
			case e.Object.Ref != w.ref, w.sha512 != "" && e.Object.SHA512 != sha512.Sum512([]byte(w.sha512)):
				t.Errorf("content %v, %x", e.Object.Ref, e.Object.SHA512)
			case !slices.Equal(e.Object.Others, w.others):
				t.Errorf("others %v, want %v", e.Object.Others, w.others)
			case !slices.Equal(where, w.where):
				t.Errorf("where %q,\nwant %q", where, w.where)
			case !e.Listed || e.Mutable != w.mutable || !e.Generation.Equal(date) || e.Object.Class != w.class || e.Stale != "" || e.Object.PeersOnly:
				t.Errorf("%+v", e)
			case w.root == "InRelease" && !e.Modified.Equal(date) || w.root == "" && !e.Modified.IsZero():
				t.Errorf("modified %v", e.Modified)
			}
		})
	}
	var e proto.Resolution
	for _, l := range []proto.Location{{Archive: "who", Path: "pool/x.deb"}, {Archive: "other", Path: "pool/x.deb"}} {
		if _, ok := v.Resolve(&e, l, infoOf(l.Path)); ok {
			t.Errorf("%v is known", l)
		}
	}
}

// What is shared by all requests is not written to by one of them.
func TestOthersAreAppendedToACopy(t *testing.T) {
	src := memLists{"1": fileOf(t, listOf(t, file("p", "1"), file("q", "3"))), "2": fileOf(t, listOf(t, file("p", "2"), file("q", "4")))}
	a := BuildArchive("a", []*Suite{suite(gen("s", 0))}, tableOf(t, src, []string{"1", "2"}, nil))
	for range 2 {
		for path, want := range map[string]string{"p": "2", "q": "4"} {
			var e proto.Resolution
			if a.Resolve(&e, loc(path), infoOf(path)); !slices.Equal(e.Object.Others, []proto.Ref{ref(want)}) {
				t.Errorf("%s: %v", path, e.Object.Others)
			}
			accept(&e.Object, ref("5"))
		}
	}
}

type broken struct{}

func (broken) Lookup(string) (Listed, bool, error) { return Listed{}, false, errors.New("a disk") }

// A disk that fails is said to fail, and does not make a listed file an unlisted one.
func TestResolveWithoutFiles(t *testing.T) {
	a := BuildArchive("a", []*Suite{suite(gen("s", 0, member("p", "0", false)))}, broken{})
	var e proto.Resolution
	if d, ok := a.Resolve(&e, loc("pool/x"), infoOf("pool/x")); ok || d.Err == nil {
		t.Errorf("%v, %+v", ok, d)
	}
	if d, ok := a.Resolve(&e, loc("s/p"), infoOf("s/p")); !ok || d.Err != nil || e.Object.Ref != ref("0") {
		t.Errorf("%v, %+v", ok, d)
	}
}

func TestResolveAllocatesNothing(t *testing.T) {
	v, paths := benchView(t, 1000)
	for name, path := range paths {
		var e proto.Resolution
		info := infoOf(path)
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := v.Resolve(&e, loc(path), info); !ok {
				t.Fatalf("%s is not resolved", path)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
