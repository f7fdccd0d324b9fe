// Package plain turns compressed files back into plain ones. Every repository format reads its
// indexes through it.
//
// It is pure and bounded: memory by MaxDecompressMemory, what comes out by the caller's limit. It
// knows compressions, and nothing of what is compressed.
package plain
