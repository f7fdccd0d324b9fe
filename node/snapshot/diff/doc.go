// Package diff says which packages differ between two states of the same suites: two snapshots, or a
// snapshot and the archive as it is now.
//
// It reads the indexes that the two have not in common, each twice. The first time it keeps a number of
// 16 bytes for each package, the second time what is different. So memory grows with the difference,
// and by little with the archive.
package diff
