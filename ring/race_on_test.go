//go:build race

package ring

// fifty is how many nodes TestFifty has; fifty take too long with the race detector.
const fifty = 12
