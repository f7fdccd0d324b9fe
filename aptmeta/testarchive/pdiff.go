package testarchive

import (
	"bytes"
	"fmt"
	"strings"
)

// patch leads from one text of an index to the next, or, where the suite merges
// its patches, to the current one.
type patch struct {
	name     string
	from     []byte // the text it applies to
	ed, gzed []byte
}

// patchTime is how dak names patches.
const patchTime = "2006-01-02-1504.05"

// pdiffs adds <index>.diff/Index and the patches, once there is a generation to
// come from. The fields are those apt reads (apt-pkg/acquire-item.cc,
// pkgAcqDiffIndex); only the .gz of a patch is served, as in Debian.
func (r *rendering) pdiffs(path string, text []byte) {
	patches := r.chain(path, text)
	if r.s.MergedPDiffs {
		patches = r.merged(path, text)
	}
	if len(patches) == 0 {
		return
	}
	r.patches[path] = patches
	var buf bytes.Buffer
	for _, hash := range r.s.Hashes {
		if hash == MD5Sum {
			continue
		}
		fmt.Fprintf(&buf, "%s-Current: %s %d\n", hash, Sum(hash, text), len(text))
		block := func(name, suffix string, of func(patch) []byte) {
			fmt.Fprintf(&buf, "%s-%s:\n", hash, name)
			for _, p := range patches {
				fmt.Fprintf(&buf, " %s %d %s\n", Sum(hash, of(p)), len(of(p)), p.name+suffix)
			}
		}
		block("History", "", func(p patch) []byte { return p.from })
		block("Patches", "", func(p patch) []byte { return p.ed })
		block("Download", ".gz", func(p patch) []byte { return p.gzed })
	}
	if r.s.MergedPDiffs {
		buf.WriteString("X-Patch-Precedence: merged\n")
	}
	if buf.Len() == 0 {
		return // an archive that lists MD5 alone has no pdiffs
	}
	r.member(path+".diff/Index", buf.Bytes(), []string{""}, true)
	for _, p := range patches {
		r.canonical[r.s.At(path+".diff/"+p.name+".gz")] = newFile(p.gzed, r.date)
	}
}

// chain appends the step from the previous generation to those before it.
func (r *rendering) chain(path string, text []byte) []patch {
	if r.previous == nil {
		return nil
	}
	patches := r.previous.patches[path]
	before, ok := r.previous.plain[path]
	if !ok || bytes.Equal(before, text) {
		return patches
	}
	name := r.date.Format(patchTime)
	for _, p := range patches {
		if p.name == name { // a fork has the date of its sibling
			name += ".1"
		}
	}
	return append(patches[:len(patches):len(patches)], r.newPatch(name, before, text))
}

// merged makes one patch from every earlier text.
func (r *rendering) merged(path string, text []byte) []patch {
	var patches []patch
	seen := map[string]bool{string(text): true}
	for n, g := range r.s.generations {
		before, ok := g.plain[path]
		if !ok || seen[string(before)] {
			continue
		}
		seen[string(before)] = true
		name := fmt.Sprintf("T-%s-F-%s", r.date.Format(patchTime), g.date.Format(patchTime))
		if n > 0 && r.s.generations[n-1].date.Equal(g.date) {
			name += ".1"
		}
		patches = append(patches, r.newPatch(name, before, text))
	}
	return patches
}

func (r *rendering) newPatch(name string, from, to []byte) patch {
	ed := edScript(from, to)
	return patch{name: name, from: from, ed: ed, gzed: r.a.packed.compress(".gz", ed)}
}

// edScript returns the ed commands that turn one index into another, last lines
// first. Both list their stanzas in the same order, so that the stanzas they
// share can be matched in one walk.
func edScript(from, to []byte) []byte {
	a, b := stanzasOf(from), stanzasOf(to)
	inB := make(map[string]int, len(b))
	for i, s := range b {
		inB[s] = i
	}
	var hunks []string
	var i, j, line int // line: lines of a before stanza i
	for i < len(a) || j < len(b) {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			line += strings.Count(a[i], "\n")
			i, j = i+1, j+1
			continue
		}
		first := line + 1
		for i < len(a) {
			if k, ok := inB[a[i]]; ok && k >= j {
				break
			}
			line += strings.Count(a[i], "\n")
			i++
		}
		end := len(b)
		if i < len(a) {
			end = inB[a[i]]
		}
		hunks = append(hunks, edCommand(first, line, strings.Join(b[j:end], "")))
		j = end
	}
	var out bytes.Buffer
	for n := len(hunks) - 1; n >= 0; n-- {
		out.WriteString(hunks[n])
	}
	return out.Bytes()
}

// edCommand replaces lines first to last (none where last < first) by text.
func edCommand(first, last int, text string) string {
	lines := fmt.Sprintf("%d,%d", first, last)
	if first == last {
		lines = fmt.Sprint(first)
	}
	switch {
	case last < first:
		return fmt.Sprintf("%da\n%s.\n", last, text)
	case text == "":
		return lines + "d\n"
	default:
		return lines + "c\n" + text + ".\n"
	}
}

// stanzasOf splits an index into stanzas, each with its blank line.
func stanzasOf(text []byte) []string {
	parts := strings.SplitAfter(string(text), "\n\n")
	return parts[:len(parts)-1] // what follows the last blank line: nothing
}
