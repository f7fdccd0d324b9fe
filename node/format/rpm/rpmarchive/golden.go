package rpmarchive

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Few are packages with all that a version may have.
var Few = []Package{
	{Name: "hello", Version: "2.10"},
	{Name: "libstdc++-devel", Version: "13~rc1^git5", Release: "1.fc40", Epoch: "2"},
	{Name: "docs", Arch: "noarch"},
}

// Golden are repositories as distributions publish them: by the name of an archive, by directory.
func Golden() map[string]map[string]Repo {
	variants := func(ext string, types ...string) (records []Record) {
		for _, t := range types {
			text := "<" + t + "/>\n"
			if t == "modules" { // dnf aborts at anything but this
				text = "---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: perl\n  stream: \"5.32\"\n  profiles: {}\n...\n"
			}
			records = append(records, Record{Type: t, Ext: ext, Text: text})
		}
		return records
	}
	fedora := Repo{Packages: Few, Records: slices.Concat(
		variants(".zst", "primary", "filelists", "other"), variants(".zck", "primary_zck", "filelists_zck", "other_zck"),
		variants(".xz", "group", "updateinfo", "modules")),
		Tags: "  <tags>\n    <distro cpeid=\"cpe:/o:fedoraproject:fedora:40\">Fedora 40</distro>\n  </tags>\n"}
	epel := Repo{Packages: slices.Concat(Few, []Package{{Name: "patched", Delta: "drpms/patched-0-1_1-1.x86_64.drpm"}}),
		Records: slices.Concat(variants(".xz", "primary", "filelists", "other"), variants(".xz", "primary_db", "filelists_db"), variants(".zst", "updateinfo"),
			variants(".gz", "prestodelta"), variants("", "group"), variants(".zck", "updateinfo_zck"))}
	rhel := Repo{Packages: Few, Records: slices.Concat(variants(".gz", "primary", "filelists", "other", "updateinfo", "modules"), variants("", "productid", "group"))}
	suse := Repo{Packages: []Package{{Name: "hello", Href: "x86_64/hello-1-1.x86_64.rpm"}, {Name: "hello", Arch: "noarch", Href: "noarch/hello-1-1.noarch.rpm"}},
		Key: testarchive.DefaultKey(), Tags: "  <tags>\n    <repoid>obsrepository://build.opensuse.org/tools/15.6</repoid>\n  </tags>\n",
		Records: slices.Concat(variants(".zst", "primary", "filelists", "other", "susedata.de", "suseinfo", "patterns"), variants(".gz", "appdata", "license-x"))}
	amazon := Repo{Key: testarchive.DefaultKey(), NoKeyFile: true, Sum: "sha512", Packages: []Package{
		{Name: "kernel", Href: "../../../../blobstore/0123/kernel-6.1-1.x86_64.rpm"}, {Name: "bash", Href: "../../../../blobstore/4567/bash-5-1.x86_64.rpm"}}}
	cloud := Repo{Key: testarchive.DefaultKey(), PlainNames: true, Packages: []Package{
		{Name: "agent", Href: "agent-1.0%2Bb1-1.x86_64.rpm", At: "agent-1.0+b1-1.x86_64.rpm"}, {Name: "cli", Href: "./cli-1-1.x86_64.rpm", At: "cli-1-1.x86_64.rpm"}}}
	first := Repo{Packages: Few, PlainNames: true, Records: []Record{{Type: "primary", Ext: ".gz"}, {Type: "filelists", Ext: ".gz"}},
		Edit: func(kind, text string) string {
			if kind == "repomd" { // floats, and another order
				text = strings.ReplaceAll(text, "</timestamp>", ".55</timestamp>")
				return strings.Replace(text, "  <revision>", "  <!-- made <by> hand -->\n  <unknown><deep/></unknown>\n  <revision>", 1)
			}
			return strings.NewReplacer(`<?xml version="1.0" encoding="UTF-8"?>`+"\n", "", `type="rpm"`, "type='rpm'\n\t", "<summary>", "<summary><![CDATA[ <package> <location href='no'/> ]]>").Replace(text)
		}}
	tumbleweed := Repo{Sum: "sha512", Key: testarchive.DefaultKey(), Packages: []Package{{Name: "hello", Href: "x86_64/hello-1-1.x86_64.rpm"}, {Name: "libc++1", Href: "x86_64/libc++1-1-1.x86_64.rpm"}},
		Tags:    "  <tags>\n    <content>pool</content>\n    <repo>obsproduct://build.opensuse.org/openSUSE:Factory/openSUSE/20260401/x86_64</repo>\n  </tags>\n",
		Records: slices.Concat(variants(".zst", "primary", "filelists", "other", "susedata", "susedata.cs", "suseinfo", "updateinfo"), variants(".gz", "appdata", "appdata-icons", "license"), variants("", "deltainfo"))}
	// COPR: a directory for each build, and a second repository beside the first, for its own builders.
	copr := Repo{Packages: []Package{{Name: "tool", Href: "07312345-tool/tool-1-1.x86_64.rpm"}}, Records: slices.Concat(variants(".gz", "primary", "filelists", "other"), variants(".xz", "updateinfo"))}
	devel := Repo{Packages: []Package{{Name: "tool", Href: "../07312346-tool/tool-1-1.x86_64.rpm"}}, Records: copr.Records}
	// CentOS 7 and Amazon Linux 2: databases of yum beside the lists.
	yum := Repo{Packages: Few, Records: slices.Concat(variants(".gz", "primary", "filelists", "other"), variants(".xz", "primary_db", "filelists_db", "other_db"), variants("", "group"), variants(".gz", "group_gz"))}
	merged := Repo{Packages: []Package{
		{Name: "here", Base: "https://mirror.example.org/vendor/pool/", Href: "here-1-1.x86_64.rpm", At: "../pool/here-1-1.x86_64.rpm"},
		{Name: "prefixed", Href: "http://mirror.example.org/vendor/el9/x/prefixed-1-1.x86_64.rpm", At: "x/prefixed-1-1.x86_64.rpm"},
		{Name: "there", Base: "https://github.example.com/releases/", Href: "there-1-1.x86_64.rpm"}}}
	return map[string]map[string]Repo{
		"several servers": {"el9": merged},
		"Fedora":          {"releases/40/Everything/x86_64/os": fedora, "updates/40/Everything/x86_64": fedora},
		"EPEL":            {"9/Everything/x86_64": epel},
		"like RHEL":       {"rhel9/9/x86_64/baseos/os": rhel, "rhel9/9/x86_64/appstream/os": rhel},
		"OBS":             {"repositories/tools/15.6": suse},
		"openSUSE":        {"tumbleweed/repo/oss": tumbleweed},
		"COPR":            {"results/user/project/fedora-40-x86_64": copr, "results/user/project/fedora-40-x86_64/devel": devel},
		"CentOS 7":        {"7/os/x86_64": yum},
		"Amazon Linux":    {"core/mirrors/2023.1/x86_64": amazon},
		"packagecloud":    {"el/9/x86_64": cloud},
		"the old style":   {"": first},
	}
}
