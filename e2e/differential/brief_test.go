package differential

import "strings"

// brief are the rows of the short form: of each kind the members that differ most, and
// those that the public reports were about. -full has them all.
var brief = strings.Split(strings.TrimSpace(`
Date in Chinese
Date in ISO form
Date in ISO form, only in generation 2
Date as asctime
Date of RFC 850
Date two hours east
Date empty
no Date, only in generation 2
Valid-Until past, Check-Valid-Until off
Valid-Until past
Valid-Until that nobody can read
an entry: twice with two sums, the right one first
an entry: an absolute path is listed
an entry: an absolute path is listed, only in generation 2
an entry: a path that leaves the suite
an entry: a SHA256 of 63 digits
an entry: a size of -
an entry: the index again with ./ and another size
an entry: Release listed with size 0
an entry: the suite itself
an entry: a path in Latin-1
an entry: tabs between the words of an entry
an entry: an entry of the index on the line of the field
a field: no Suite, no Codename
a field: no Architectures
a field: a Description of 1000 lines
a field: Acquire-By-Hash of another spelling, no by-hash files
a field: Codename twice
a field: a line that is no field
a field: a comment
a field: security suite with the Codename of the release
a field: components with a prefix in the Release alone
a field: Codename changes in generation 2, the host agrees
a form: line ends of DOS
a form: a second stanza
a form: lines that begin with dashes
InRelease signed by another key, same text
Release.gpg alone by another key
all three roots signed by another key, same text
InRelease alone
Release and Release.gpg alone
a pair of generation 1 for ever beside InRelease
InRelease appears in generation 2
InRelease is gone in generation 2
two keys sign, the host knows the second
Release.gpg without armour
InRelease with a Version in its armour
InRelease with line ends of DOS
InRelease with an empty line at its end
InRelease with words before it
InRelease altered
signed by a key that nobody knows
indexes in .gz alone
indexes in .zst alone
indexes in .lz4 alone
plain indexes alone
the Release lists no plain index
gzip with zero bytes behind it, only in generation 2
xz of two streams
xz with a dictionary of 128 MiB
zstd with a window of 128 MiB, only in generation 2
by hash
by hash alone, no plain names
by hash, SHA256 of two sums is there
by hash is announced, and no such file is there
by hash is not announced, no plain names, and the host insists
Translation is listed and absent, nobody wants it
an architecture is listed and absent
packages for all architectures apart
pdiffs merged, by hash
an empty suite beside a full one
an empty component's files are absent
a line of 900 KiB
a source of 5000 files, only in generation 2
two source stanzas that disagree about a file
the same package again with another sum, the right one last
line ends of DOS in Packages
packages without SHA256, SHA1 is there
no Size
flat at the root, a slash alone
flat in a directory
flat, Filename relative to a directory in between
a flat Release at the top of an archive with dists
two suites disagree about a path
packages beside their index
a pool below dists
an absolute Filename
a Filename with dots inside
unsigned, with sums of other bytes, allow-insecure=yes, and the node has keys
a suite with a slash
suite noble non-free/firmware
one Release under two directories, both are asked
a version with all that a version may have
a file name with the epoch encoded
a path with UTF-8
a path with a percent sign
a path with a hash sign
a path with quotes
no Last-Modified and no ETag at all
everything is text/html
packages are text/html
gzip as Content-Encoding to whoever accepts it
chunked
304 by a back-end with an older clock
HTTP/1.0
packages are redirected, 302
packages are redirected to another host
everything is redirected
InRelease is redirected to another site, the indexes are there alone
403 for what is absent, names by hash
unsigned, trusted=yes
unsigned, InRelease is a plain Release, trusted=yes
SHA512 alone
Release with SHA512, packages with SHA256
`), "\n")
