// Package bundle is a snapshot as files in a directory, which people carry to a site without a link: contents by their
// SHA-256 in tar archives that fit on any file system, and a manifest that names what is required. It knows digests; what
// they mean, and whether it may be believed, is for the node that takes them in.
//
// A bundle is written in steps that a crash may end at any point:
//
//	manifest.partial     what is being written: a bundle of another snapshot is never mixed in
//	00001.tar.partial    written, then synced
//	00001.tar            renamed; what is in it need not be written again
//	manifest.jsonl       renamed last: without it there is no bundle
package bundle
