//go:build !race

package ring

// fifty is how many nodes TestFifty has.
const fifty = 50
