package differential

import (
	"fmt"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// releases are Releases with odd fields and entries. Of an entry apt judges neither the
// path nor the digits, and of two entries for a path the first size counts
// (debReleaseIndex::Load, parseSumData).
func releases() []row {
	return concat(about("an entry: ", entries()), about("a field: ", fields()), about("a form: ", forms()))
}

// about puts what the rows are about before their names.
func about(what string, rows []row) []row {
	for i := range rows {
		rows[i].name = what + rows[i].name
	}
	return rows
}

func concat(lists ...[]row) (all []row) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// entries are odd lines in a list of sums.
func entries() []row {
	end := func(name, lines string) row {
		return edit(name, func(_ int, text string) string { return text + lines })
	}
	of := func(line string) string { return strings.TrimSuffix(line, "\n") }
	gz := packages + ".gz"
	late := end("an absolute path is listed, only in generation 2", " "+other+" 12 /srv/repo/dists/x/main/binary-amd64/Packages.gz\n")
	late.from = 2
	sizes := edit("one path with two sizes, MD5Sum of the day before", func(_ int, text string) string {
		md5 := text[strings.Index(text, "MD5Sum:"):]
		line := entry(md5[:strings.Index(md5, "SHA1:")], packages+".xz")
		return strings.Replace(text, line, fmt.Sprintf(" %032d %d %s.xz\n", 0, 99999, packages), 1)
	})
	sizes.refused = true
	var many strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&many, " %s %d main/i18n/by-number/%d\n", other, i, i)
	}
	return []row{
		edit("twice with two sums, the right one first", func(_ int, text string) string {
			return text + " " + other + entry(text, packages)[65:]
		}),
		edit("an unused path twice with two sums", func(_ int, text string) string {
			return text + " " + other + " 5 main/i18n/Index\n " + testarchive.Sum(testarchive.SHA256, nil) + " 6 main/i18n/Index\n"
		}),
		end("an absolute path is listed", " "+other+" 12 /srv/repo/dists/x/main/binary-amd64/Packages.gz\n"), late,
		end("a path that leaves the suite", " "+other+" 12 ../pool/index\n"),
		end("a SHA256 of 63 digits", " "+other[1:]+" 12 main/foo\n"),
		end("a SHA256 of no digits", " none 12 main/foo\n"),
		edit("a SHA1 of 39 digits", func(_ int, text string) string {
			return strings.Replace(text, "SHA1:\n", "SHA1:\n "+strings.Repeat("a", 39)+" 12 main/foo\n", 1)
		}),
		end("a size of -", " "+other+" - main/foo\n"),
		end("a negative size", " "+other+" -12 main/foo\n"),
		end("a size in hex", " "+other+" 0x12 main/foo\n"),
		end("a size beyond 64 bits", " "+other+" 99999999999999999999999 main/foo\n"),
		end("a size with a unit", " "+other+" 12K main/foo\n"),
		edit("the index again with ./ and another size", func(_ int, text string) string {
			return text + " " + other + " 12 ./" + gz + "\n"
		}),
		end("the roots list themselves with wrong sums", " "+other+" 12 Release\n "+other+" 12 Release.gpg\n "+other+" 12 InRelease\n"),
		end("Release listed with size 0", " "+testarchive.Sum(testarchive.SHA256, nil)+" 0 Release\n"),
		refused(end("a path with spaces", " "+other+" 12 main/a b\n")),
		end("a directory with size 0", " "+testarchive.Sum(testarchive.SHA256, nil)+" 0 main/\n"),
		end("the suite itself", " "+other+" 4096 .\n"),
		end("an empty segment", " "+other+" 12 main//foo\n"),
		end("a path in UTF-8", " "+other+" 12 main/Übersetzung-größer\n"),
		end("a path in Latin-1", " "+other+" 12 main/\xdcber\n"),
		end("a path with a control character", " "+other+" 12 main/a\x01b\n"),
		end("a path with a backslash", " "+other+" 12 main\\foo\n"),
		end("a path with an encoded slash", " "+other+" 12 main%2ffoo\n"),
		end("a path of 5000 characters", " "+other+" 12 main/"+strings.Repeat("x", 5000)+"\n"),
		end("a path that is a directory of another", " "+other+" 12 main/binary-amd64\n"),
		end("30000 entries of no use", many.String()),
		refused(edit("sums in capitals", func(_ int, text string) string {
			line := entry(text, packages+".xz")
			return strings.ReplaceAll(text, line, strings.ToUpper(line[:65])+line[65:])
		})),
		edit("tabs between the words of an entry", func(_ int, text string) string {
			head, sums := split(text)
			return head + strings.NewReplacer(" ", "\t").Replace(sums)
		}),
		refused(end("words behind the path of an entry", " "+other+" 12 main/foo 2024-01-01 optional\n")),
		edit("the first entry on the line of the field", func(_ int, text string) string {
			return strings.ReplaceAll(text, "SHA256:\n ", "SHA256: ")
		}),
		edit("an entry of the index on the line of the field", func(_ int, text string) string {
			line := entry(text, packages+".xz")
			return strings.Replace(strings.Replace(text, line, "", 1), "SHA256:\n", "SHA256:"+of(line)+"\n", 1)
		}),
		edit("spaces at the ends of entries", func(_ int, text string) string {
			head, sums := split(text)
			return head + strings.ReplaceAll(sums, "\n", "  \n")
		}),
		edit("twice the same entries", func(_ int, text string) string {
			return text + text[strings.Index(text, "SHA256:\n")+len("SHA256:\n"):]
		}),
		edit("SHA256 first, MD5Sum last", func(_ int, text string) string {
			md5, sha1, sha256 := strings.Index(text, "MD5Sum:"), strings.Index(text, "SHA1:"), strings.Index(text, "SHA256:")
			return text[:md5] + text[sha256:] + text[sha1:sha256] + text[md5:sha1]
		}),
		edit("a field after the sums", func(_ int, text string) string {
			return text + "Changelogs: https://changelogs.example.org/@CHANGEPATH@\n"
		}),
		edit("names of the sums in other letters", func(_ int, text string) string {
			return strings.NewReplacer("MD5Sum:", "MD5SUM:", "SHA256:", "sha256:").Replace(text)
		}),
		edit("an unknown sum", func(_ int, text string) string {
			return text + "SHA3-256:\n " + other + " 12 main/foo\n"
		}),
		edit("sizes of MD5Sum padded with zeros", func(_ int, text string) string {
			return text + " " + other + " 000012 main/foo\n"
		}), sizes,
	}
}

// fields are odd fields of a Release.
func fields() []row {
	gone := func(names ...string) row {
		return edit("no "+strings.Join(names, ", no "), func(_ int, text string) string {
			for _, name := range names {
				text = drop(text, name)
			}
			return text
		})
	}
	as := func(name, field, value string) row {
		return edit(name, func(_ int, text string) string { return set(text, field, value) })
	}
	changed := func(field string) row {
		r := edit(field+" changes in generation 2, the host agrees", func(gen int, text string) string {
			return set(text, field, fmt.Sprint("name", gen))
		})
		r.settings = []string{`Acquire::AllowReleaseInfoChange "true";`}
		return r
	}
	version := edit("Version changes in generation 2", func(gen int, text string) string { return set(text, "Version", fmt.Sprint("12.", gen)) })
	suiteChanges := changed("Suite")
	suiteChanges.sources = deb
	renamed := edit("another Codename than the directory", func(_ int, text string) string { return set(text, "Codename", "numbat") })
	security := edit("security suite with the Codename of the release", func(_ int, text string) string {
		return set(set(text, "Suite", "noble-security"), "Codename", "noble")
	})
	security.suite.Name = "noble-security"
	security.sources = "deb [signed-by=KEYRING] URL noble-security main"
	security.everywhere = true
	stable := edit("asked by Suite, named by Codename", func(_ int, text string) string {
		return set(set(text, "Suite", "stable"), "Codename", "bookworm")
	})
	stable.suite.Name, stable.sources = "stable", "deb [signed-by=KEYRING] URL stable main"
	odd := edit("Suite and Codename name something else", func(_ int, text string) string {
		return set(set(text, "Suite", "./"), "Codename", "my repository")
	})
	prefixed := row{name: "components with a prefix in the Release alone", suite: testarchive.Suite{ComponentPrefix: "updates/"}}
	missing := edit("a component that the Release does not name", func(_ int, text string) string { return set(text, "Components", "contrib") })
	strange := edit("an architecture that the Release does not name", func(_ int, text string) string { return set(text, "Architectures", "arm64") })
	return []row{
		gone("Origin"), gone("Label"), gone("Suite"), gone("Codename"), gone("Suite", "Codename"),
		gone("Architectures"), gone("Components"), gone("Origin", "Label", "Suite", "Codename", "Architectures", "Components", "Description"),
		as("a Description of 15000 characters on a line", "Description", strings.Repeat("x", 15000)),
		as("a Description of 1000 lines", "Description", strings.Repeat("\n "+strings.Repeat("x", 120), 1000)),
		as("a Label of 3000 characters", "Label", strings.Repeat("y", 3000)),
		as("names in UTF-8", "Origin", "Zürich Ⅻ 東京"),
		as("names in Latin-1", "Origin", "Z\xfcrich"),
		as("names with quotes and slashes", "Label", `a "b" c/d\e 'f'`),
		as("Acquire-By-Hash no", "Acquire-By-Hash", "no"),
		as("Acquire-By-Hash of another spelling, no by-hash files", "Acquire-By-Hash", "TRUE"),
		as("Acquire-By-Hash of no meaning", "Acquire-By-Hash", "perhaps"),
		as("Architectures with tabs and double spaces", "Architectures", "amd64  arm64 \t all"),
		as("Components with double spaces", "Components", "main  contrib"),
		edit("a folded Description", func(_ int, text string) string { return set(text, "Description", "one\n two\n .\n three") }),
		edit("Architectures on several lines", func(_ int, text string) string { return set(text, "Architectures", "amd64\n arm64") }),
		edit("Origin twice", func(_ int, text string) string { return add(text, "Origin: another") }),
		edit("Codename twice", func(_ int, text string) string { return add(text, "Codename: another") }),
		edit("fields in other letters", func(_ int, text string) string {
			return strings.NewReplacer("Origin:", "ORIGIN:", "Codename:", "codename:", "Date:", "dAtE:").Replace(text)
		}),
		edit("unknown fields", func(_ int, text string) string { return add(text, "X-Made-By: hand\nFoo-Bar_Baz: 7\nE: empty") }),
		edit("an empty field", func(_ int, text string) string { return add(text, "Signed-Off:") }),
		edit("a field of spaces", func(_ int, text string) string { return add(text, "Changelogs:   ") }),
		edit("a line that is no field", func(_ int, text string) string { return add(text, "garbage") }),
		edit("a comment", func(_ int, text string) string { return add(text, "# made by hand") }),
		edit("a space before the colon", func(_ int, text string) string { return strings.Replace(text, "Codename:", "Codename :", 1) }),
		edit("no space after the colons", func(_ int, text string) string {
			head, sums := split(text)
			return strings.ReplaceAll(head, "Codename: ", "Codename:") + sums
		}),
		edit("a tab after the colons", func(_ int, text string) string {
			head, sums := split(text)
			return strings.ReplaceAll(head, ": ", ":\t") + sums
		}),
		edit("NotAutomatic and ButAutomaticUpgrades", func(_ int, text string) string {
			return add(text, "NotAutomatic: yes\nButAutomaticUpgrades: yes")
		}),
		edit("Signed-By names the key in use", func(_ int, text string) string {
			return add(text, "Signed-By: "+testarchive.DefaultKey().Fingerprint())
		}),
		edit("Snapshots, Changelogs, Release-Notes", func(_ int, text string) string {
			return add(text, "Snapshots: https://snapshot.example.org/@SNAPSHOTID@/\nChangelogs: no\nRelease-Notes: https://example.org/")
		}),
		version, changed("Origin"), changed("Label"), changed("Codename"), suiteChanges, renamed, security, stable, odd, prefixed, missing, strange,
	}
}

// forms are Releases that are laid out in an odd way.
func forms() []row {
	crlf := edit("line ends of DOS", func(_ int, text string) string { return strings.ReplaceAll(text, "\n", "\r\n") })
	return []row{
		crlf,
		edit("no newline at the end", func(_ int, text string) string { return strings.TrimSuffix(text, "\n") }),
		edit("empty lines at the end", func(_ int, text string) string { return text + "\n\n\n" }),
		edit("an empty line at the beginning", func(_ int, text string) string { return "\n" + text }),
		edit("a second stanza", func(_ int, text string) string { return text + "\nOrigin: another\nSuite: another\n" }),
		refused(edit("an empty line before SHA256", func(_ int, text string) string { return strings.Replace(text, "SHA256:\n", "\nSHA256:\n", 1) })),
		edit("an empty line within SHA256", func(_ int, text string) string { return text + "\n " + other + " 12 main/zzz\n" }),
		edit("spaces at the ends of fields", func(_ int, text string) string {
			head, sums := split(text)
			return strings.ReplaceAll(head, "\n", "  \n") + sums
		}),
		edit("lines that begin with dashes", func(_ int, text string) string {
			return add(text, "Description-de: --\n -- eins\n - zwei\n ----- drei")
		}),
		edit("a byte order mark", func(_ int, text string) string { return "\ufeffX: y\n" + text }),
	}
}
