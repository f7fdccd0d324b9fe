// Package listen binds the addresses that hosts connect to, plain and TLS, remembers which ones they
// are, and says which process has a port that is taken.
//
// It serves nothing: who accepts connections, and what they are for, is not known here.
package listen
