package main

import (
	"path"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// object is a kind of file that hosts ask for.
type object int

const (
	firstRoot object = iota // that of a suite that nobody asked for before
	nextRoot                // that of a generation newer than the one held
	index                   // as the root names it
	pkg
	objects // how many there are
)

func (o object) isRoot() bool { return o == firstRoot || o == nextRoot }

// sick is what a fault is given to work on.
type sick struct {
	*testarchive.Server
	format  format
	object  object
	pattern []string // the paths of the object, under all their names
	size    int64    // of the object
	portal  string   // URL of a server that answers everything with a page
	old     map[string]testarchive.File
}

// fault is one way in which a mirror fails.
type fault struct {
	name   string
	moment string
	strike func(sick)
	only   []object // nil: any
	// benign says that even with no good mirror left the client gets the file.
	benign bool
	// silent faults leave no trace in the mirror's log.
	silent bool
}

func (f fault) hits(o object) bool {
	for _, other := range f.only {
		if other == o {
			return true
		}
	}
	return f.only == nil
}

// The moments of an answer.
const (
	before = "before the head"
	inHead = "in the head"
	start  = "first byte"
	middle = "mid-body"
	last   = "last byte"
	always = "throughout"
)

// inflict is a fault on the object alone.
func inflict(effects ...testarchive.Effect) func(sick) {
	return func(s sick) {
		for _, p := range s.pattern {
			s.Inject(p, 0, effects...)
		}
	}
}

// everywhere is a fault of the whole mirror.
func everywhere(effects ...testarchive.Effect) func(sick) {
	return func(s sick) { s.Inject("*", 0, effects...) }
}

// at makes an effect that depends on where in the object it strikes.
func at(moment string, effect func(offset int64) testarchive.Effect) func(sick) {
	return func(s sick) {
		inflict(effect(map[string]int64{start: 0, middle: s.size / 2, last: s.size - 1}[moment]))(s)
	}
}

// wrongByte turns a byte over. That which ends a signed text is a line feed, which
// no signature covers: there the last byte is one of the signature.
func wrongByte(moment string) func(sick) {
	return func(s sick) {
		if moment == last && s.object.isRoot() && s.format.signedWithin {
			inflict(testarchive.WrongBytes(-50))(s)
			return
		}
		at(moment, testarchive.WrongBytes)(s)
	}
}

// faults are all of them, in the order of the table.
func faults(form format) []fault {
	all := []fault{
		{name: "connection refused", moment: before, strike: func(s sick) { s.Refuse() }, silent: true},
		{name: "never answers", moment: before, strike: everywhere(testarchive.Stall(-1))},
		{name: "connection reset", moment: before, strike: inflict(testarchive.Reset(-1))},
		{name: "connection closed", moment: inHead, strike: inflict(testarchive.InHead(testarchive.BrokenOff))},
		{name: "connection reset", moment: inHead, strike: inflict(testarchive.InHead(testarchive.BrokenByReset))},
		{name: "stall", moment: inHead, strike: inflict(testarchive.InHead(testarchive.BrokenBySilence))},
		{name: "429 with Retry-After", moment: inHead, strike: everywhere(testarchive.Status(429, 1))},
		{name: "503", moment: inHead, strike: everywhere(testarchive.Status(503, 0))},
		{name: "404", moment: inHead, strike: inflict(testarchive.Status(404, 0))},
		{name: "200 with a page of HTML", moment: inHead, strike: inflict(testarchive.HTML200())},
		{name: "redirect to a captive portal", moment: inHead, strike: func(s sick) { inflict(testarchive.Redirect(302, s.portal))(s) }},
		{name: "longer than it should be", moment: inHead, strike: inflict(testarchive.WrongLength(7))},
		{name: "shorter than it should be", moment: inHead, strike: inflict(testarchive.WrongLength(-20))},
	}
	for _, moment := range []string{start, middle, last} {
		all = append(all, fault{name: "wrong byte, equal length", moment: moment, strike: wrongByte(moment)})
	}
	for _, moment := range []string{start, middle, last} {
		all = append(all, fault{name: "truncated", moment: moment, strike: at(moment, testarchive.Truncate)})
	}
	for _, moment := range []string{start, middle, last} {
		all = append(all, fault{name: "stall", moment: moment, strike: at(moment, testarchive.Stall)})
	}
	for _, moment := range []string{start, middle, last} {
		all = append(all, fault{name: "connection reset", moment: moment, strike: at(moment, testarchive.Reset)})
	}
	replaced := []object{nextRoot, index, pkg}
	if form.indexFirst { // an index of the generation before comes with its root
		replaced = []object{nextRoot, pkg}
	}
	all = append(all,
		fault{name: "slow, an eighth of it in a second", moment: always, benign: true,
			strike: func(s sick) { inflict(testarchive.Drip(max(1, s.size/8)))(s) }},
		fault{name: "behind: still the generation before", moment: always, only: replaced, strike: behind},
		fault{name: "index ahead of pool", moment: always, only: []object{pkg}, strike: inflict(testarchive.Status(404, 0))},
	)
	if form.has(index) {
		all = append(all, fault{name: path.Base(form.root) + aheadOfIndices, moment: always, only: []object{nextRoot, index}, strike: ahead})
	}
	return all
}

// aheadOfIndices ends the name of the fault of a root that is there before its indices.
const aheadOfIndices = " ahead of its indices"

// behind makes a mirror that has not heard of the newest generation: its files are
// those of the one before, and what is new does not exist.
func behind(s sick) {
	s.Inject("*", 0, testarchive.Status(404, 0))
	for path, f := range s.old {
		s.Inject(path, 0, testarchive.As(f))
	}
}

// ahead makes a mirror whose root is there before the indices it lists.
func ahead(s sick) {
	s.Inject(s.format.indexes, 0, testarchive.Status(404, 0))
	for path, f := range s.old {
		if strings.Contains(path, s.format.indexFile) {
			s.Inject(path, 0, testarchive.As(f))
		}
	}
}
