package testrepo

import "github.com/aptmesh/aptmesh/aptmeta/testarchive"

// Few are packages with all that a version may have.
var Few = []Package{
	{Name: "linux", Version: "6.9.1.arch1-2", Size: 1000}, {Name: "tzdata", Version: "1:2026a-1", Arch: "any"},
	{Name: "libstdc++", Version: "14.1.1+r1+g43b730b9134-1", Compression: "xz", Depends: []string{"glibc>=2.39", "libgcc=14.1.1"}, Provides: []string{"libstdc++.so=6-64"}},
}

// GoldenArchive is an archive as its publisher lays it out.
type GoldenArchive struct {
	Name  string
	Repos []Repo
}

// Golden are archives as distributions publish them. Those that are signed are signed by testarchive.DefaultKey.
func Golden() []GoldenArchive {
	key := testarchive.DefaultKey()
	return []GoldenArchive{
		// Arch Linux: no signature beside the database, the packages' in it until repo-add 6.1.
		{Name: "Arch", Repos: []Repo{{Dir: "core/os/x86_64", Name: "core", Packages: Few, PackageKey: key, IncludeSigs: true, Files: true, LongNames: true},
			{Dir: "extra/os/x86_64", Name: "extra", Packages: Few, PackageKey: key}}},
		{Name: "Arch Linux ARM", Repos: []Repo{{Dir: "aarch64/alarm", Name: "alarm", Packages: Few[:1], PackageKey: key}}},
		{Name: "Manjaro", Repos: []Repo{{Dir: "stable/core/x86_64", Name: "core", Packages: Few, Compression: "xz", Depends: true}}},
		{Name: "MSYS2", Repos: []Repo{{Dir: "mingw/ucrt64", Name: "ucrt64", Compression: "zst", Key: key, PackageKey: key, IncludeSigs: true,
			Packages: []Package{{Name: "mingw-w64-ucrt-x86_64-gcc", Version: "14.1.0-3", Arch: "any"}}},
			{Dir: "msys/x86_64", Name: "msys", Packages: Few, Key: key}}},
		{Name: "BlackArch", Repos: []Repo{{Dir: "blackarch/os/x86_64", Name: "blackarch", Packages: Few, Key: key, PackageKey: key, Flat: true}}},
		{Name: "a vendor", Repos: []Repo{{Name: "vendor", Packages: Few, Compression: "none"}}},
		{Name: "two in one directory", Repos: []Repo{{Dir: "x86_64", Name: "stable", Packages: Few[:1]}, {Dir: "x86_64", Name: "testing", Packages: Few[1:]}}},
	}
}
