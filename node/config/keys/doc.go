// Package keys reads, fills in, checks, documents and prints sections of a configuration: structs whose
// fields say in their tags and comments all that is to be known of a key. It knows the notations of their
// values, and no key.
//
// The tags of a field:
//
//	yaml     the name of the key; ",flow" and ",omitempty" are for printing, ",inline" for a section without a name
//	default  the default, as it would be written in a file
//	check    what a value must be: one of several words ("apt|rpm"), a range ("1-1000"), "positive", "second"
//	path     the kind of file or directory that the value names
//	reload   "no" has a change wait for a restart, also for the keys of a section; "yes" takes a key out of that
//	entry    the field holds the name of the entry, which stands in the place of a key in the file
//	short    the field may stand for all of its section in a list; the tag says what it is
//
// A list of sections whose entries have names, and a section that may be short, say in MarshalYAML how they
// are written, because the YAML library knows nothing of these two tags.
//
// The comment of a field is its documentation for operators: the first paragraph where a line must do, all
// of it in the reference.
package keys
