// Package statedir is a directory of small files that must survive: which generations
// a node believes, what its clients use, the last good lists of mirrors. Such a file
// is replaced as a whole and durably. The directory says which format it has, so that
// a program which does not know that format leaves it alone.
//
//	<dir>/format   the format, a number, and a sentence about who wrote it
//	<dir>/lock     flock of the one process that may write here; holds its pid
//	<dir>/.new-N   bytes on their way in; what is left there is deleted by Open
//	<dir>/…        the files; their names are free text, URL-escaped
//
// It is not a cache: nothing is evicted, nothing counts against a size limit, and
// nothing is derived from anything else (a second directory beside the cache is there
// for that). It is not a database either: there is no transaction over two files.
//
// It does not know what the files mean. The caller says which format they have
// (Config.Format); a directory of another format is refused.
package statedir
