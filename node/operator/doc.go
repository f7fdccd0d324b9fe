// Package operator is what an operator sees of a node and has it do: one state of all rooms together,
// the explanation of one URL, and the few commands that change something. It joins what the rooms say
// of themselves; none of it is decided here.
//
// It is no server: package admin serves it, and the page for browsers shows a part of it.
package operator
