// Package archiveconf is what the configuration says of an archive: the keys, their defaults and
// documentation, what is wrong with them, and what they mean. Without a file it makes archives from what this
// machine's own apt is configured with.
//
// It is pure, except that it reads the files which the keys name. What the rooms of a node do with an archive
// is said in node/archives.
package archiveconf
