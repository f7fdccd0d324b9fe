package testarchive

import (
	"bytes"
	"fmt"
	"strings"
)

// extras adds the optional metadata that the suite asks for.
func (r *rendering) extras() {
	s := r.s
	if s.Flat {
		return
	}
	for _, component := range s.Components {
		if s.Translations {
			r.member(component+"/i18n/Translation-en", r.translation(component), s.Compressions, true)
		}
		for _, arch := range s.Architectures {
			if s.Contents {
				r.member(component+"/Contents-"+arch, r.contents(component, arch), []string{".gz"}, true)
			}
			if s.DEP11 {
				yml := fmt.Appendf(nil, "---\nFile: DEP-11\nVersion: '1.0'\nOrigin: %s-%s\nMediaBaseUrl: https://example.org/media\n", s.Codename, component)
				r.member(component+"/dep11/Components-"+arch+".yml", yml, s.Compressions, true)
			}
			if s.Commands {
				r.member(component+"/cnf/Commands-"+arch, r.commands(component, arch), s.Compressions, true)
			}
		}
		if s.DEP11 {
			for _, size := range []string{"48x48", "64x64"} {
				r.member(component+"/dep11/icons-"+size+".tar", tarball(tarFile{"./", nil}), []string{".gz"}, true)
			}
		}
	}
	if s.ContentsRoot {
		for _, arch := range s.Architectures {
			r.member("Contents-"+arch, r.contents("", arch), []string{".gz"}, true)
		}
	}
	if s.Installer != "" {
		for _, arch := range s.Architectures {
			r.installer(s.Components[0]+"/installer-"+arch, arch)
		}
	}
}

func (r *rendering) eachBinary(component, arch string, do func(listing)) {
	for _, l := range r.s.packages {
		if !l.Source && !l.Udeb && (component == "" || l.Component == component) && (arch == "" || l.Arch == arch || l.Arch == "all") {
			do(l)
		}
	}
}

func (r *rendering) translation(component string) []byte {
	var buf bytes.Buffer
	r.eachBinary(component, "", func(l listing) {
		fmt.Fprintf(&buf, "Package: %s\nDescription-md5: %s\nDescription-en: %s\n\n", l.Name, Sum(MD5Sum, []byte(l.Description+"\n")), l.Description)
	})
	return buf.Bytes()
}

func (r *rendering) contents(component, arch string) []byte {
	var buf bytes.Buffer
	r.eachBinary(component, arch, func(l listing) {
		fmt.Fprintf(&buf, "%-55s %s/%s\n", "usr/share/"+l.Name+"/payload", l.Section, l.Name)
	})
	return buf.Bytes()
}

func (r *rendering) commands(component, arch string) []byte {
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "suite: %s\ncomponent: %s\narch: %s\n", r.s.Codename, component, arch)
	r.eachBinary(component, arch, func(l listing) {
		fmt.Fprintf(&buf, "\nname: %s\nversion: %s\ncommands: %s\n", l.Name, l.Version, l.Name)
	})
	return buf.Bytes()
}

// installer adds the images of one architecture under the installer's version
// and under "current". Only SHA256SUMS is listed in the Release; it lists the rest.
func (r *rendering) installer(dir, arch string) {
	images := []tarFile{
		{"./MANIFEST", []byte("netboot/mini.iso -- tiny image that boots\n")},
		{"./netboot/mini.iso", noise(fmt.Sprintf("%d installer %s %s", r.a.seed, r.s.Installer, arch), 100<<10)},
		{"./netboot/debian-installer/" + arch + "/linux", noise(fmt.Sprintf("%d linux %s %s", r.a.seed, r.s.Installer, arch), 50<<10)},
	}
	var sums strings.Builder
	for _, f := range images {
		fmt.Fprintf(&sums, "%s  %s\n", Sum(SHA256, f.data), f.name)
	}
	for _, version := range []string{r.s.Installer, "current"} {
		base := dir + "/" + version + "/images/"
		r.member(base+"SHA256SUMS", []byte(sums.String()), []string{""}, true)
		for _, f := range images {
			r.canonical[r.s.At(base+f.name[2:])] = newFile(f.data, r.date)
		}
	}
}
