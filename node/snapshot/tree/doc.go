// Package tree writes a snapshot as a plain tree of files, which any static web server can serve: DIR/current is a symbolic
// link to the generation of the tree that is served, DIR/TIME.
//
// A generation is built aside, made durable as a whole, and then the link is replaced, so that the link leads to a whole
// generation at any moment, whatever ends the program. What was built when a program was killed is hashed and used by the
// next run. Files that the generation before has are linked, not copied.
//
// A client that read the roots of the generation before asks for its indexes and packages through the new link. So the
// new generation has the files of the two before it as well, under names that it does not use itself, except roots.
package tree
