// Package pgp reads OpenPGP keyrings and checks signatures against them, for every repository
// format.
//
// It is pure: callers pass the time. It judges signatures and keys. In which form a format wants
// its signatures (armoured, beside the file or around it) is for that format to check first.
//
// A Keyring is safe for concurrent use once it has been made.
package pgp
