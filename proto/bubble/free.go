//go:build !race || go1.27

package bubble

// oneProcessor: see the package.
const oneProcessor = false
