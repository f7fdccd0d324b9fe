// Package listen binds the addresses that hosts connect to, plain and TLS, remembers which ones they
// are, and says which process has a port that is taken.
//
// It serves nothing: it does not know which room accepts the connections, and for what.
package listen
