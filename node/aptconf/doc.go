// Package aptconf reads what archives this machine's own apt is configured for:
// sources.list, sources.list.d and the keyrings beside them.
//
// It is a reader of files and nothing else: it asks no network, runs no program,
// checks no key, and never writes. It does not read apt.conf: a machine that
// moves its sources with Dir::Etc needs a configuration file, and apt's proxy
// setting is left alone on purpose, for on a machine that uses the cache it runs,
// that proxy is the cache itself.
//
// It also reads apt's lists of mirrors, wherever they come from: ParseMirrorList.
//
// The formats are those of sources.list(5) of apt 2.9. Whatever apt would use but
// aptmesh cannot serve (cdrom, file, …) is returned as a Notice
// with its place and the reason.
package aptconf
