// Command answers finds out what real apt does with every HTTP status that a cache could
// answer with, and writes it down as a table.
//
// A trial is one apt, one place of the failing answer (the InRelease of one suite of two,
// an index of it, a package), one way to the server (a mapped URL, or the proxy setting)
// and one number of Acquire::Retries. The server is a script of this command: it answers
// from a signed archive, and at that place with the status and reason phrase of the trial.
// What counts is seen from outside: how apt ends, how often it asked, what it asked for
// instead, and what stands on the screen.
//
// The versions of apt are this machine's own and those of other Debian releases. The
// latter come as packages from the mirror that this machine's apt is configured with,
// unpacked into a directory and run by chroot. That needs root; without it, or without the
// mirror, their columns are missing, and a sentence says so.
//
// go run ./e2e/answers --out docs/answers.md makes all trials, in about ten minutes.
package main
