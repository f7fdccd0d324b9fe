package archiveconf

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/keyrings"
)

// adviseFile ends the errors of a machine whose own sources cannot be served.
const adviseFile = "name the archives in a configuration file and start with --config FILE"

// OfMachine are the archives that the apt configuration below root ("/") names with their keyrings, or
// Ubuntu's if it names none. leadsHere reports whether a URL leads to this very node, and fault says why an
// archive cannot be served, "" if it can. The notes tell the operator what was chosen and what was skipped.
func OfMachine(root string, leadsHere func(*url.URL) bool, fault func(Archive) string) (archives Archives, notes []string, err error) {
	sources, err := aptconf.Read(aptconf.Options{Root: root, IsSelf: leadsHere})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the machine's apt configuration: %w", err)
	}
	for _, n := range sources.Notices {
		notes = append(notes, n.String())
	}
	for _, source := range sources.Archives {
		a, why := fromSource(source, &notes)
		if why == "" {
			why = fault(a)
		}
		if why != "" {
			notes = append(notes, fmt.Sprintf("%s: %s: passed over: %s", source.Where, source.URL, why))
			continue
		}
		archives = append(archives, a)
	}
	switch {
	case len(archives) > 0:
		return archives, notes, nil
	case len(sources.Archives) > 0:
		return nil, notes, errors.New("none of the archives that this machine's apt uses can be served (" +
			strings.Join(notes, "; ") + "); " + adviseFile)
	case sources.Loops > 0:
		return nil, notes, errors.New("every archive that this machine's apt uses leads to this very node, so there is nowhere to fetch from; " + adviseFile)
	}
	archives, err = ofUbuntu(root)
	return archives, append(notes, "this machine's apt names no archive that can be served; serving Ubuntu's"), err
}

// fromSource turns an archive of apt's into one of ours, or says why not.
func fromSource(s aptconf.Archive, notes *[]string) (a Archive, why string) {
	a = New(s.Name)
	// The suites are watched from the start: then even a package that is asked for
	// first of all is checked.
	a.Upstream, a.Aliases, a.Suites = s.URL, s.Aliases, s.Suites
	if s.Private {
		return a, "it needs credentials, and everybody who reaches this node could read it; configure it under archives: in a configuration file if that is meant"
	}
	switch {
	case len(s.Trusted) > 0 && len(s.Trusted) == len(s.Suites):
		a.Unsigned = true
		*notes = append(*notes, fmt.Sprintf("%s: %s: accepted without a signature, because apt is told to trust it", s.Where, s.URL))
		return a, ""
	case len(s.Trusted) > 0:
		a.UnsignedSuites = s.Trusted
		*notes = append(*notes, fmt.Sprintf("%s: %s: %s accepted without a signature, because apt is told to trust it", s.Where, s.URL, strings.Join(s.Trusted, ", ")))
	}
	var troubles []string
	for _, entry := range s.SignedBy {
		ring, leftOut, err := keyrings.ReadEntry(entry)
		if err != nil {
			troubles = append(troubles, files.Trouble(entry, err, ""))
			continue
		}
		troubles = append(troubles, leftOut...)
		if len(ring.Fingerprints()) == 0 {
			continue
		}
		a.SignedBy = append(a.SignedBy, entry)
	}
	if len(a.SignedBy) > 0 {
		if !s.DefaultKeys {
			for _, t := range troubles {
				*notes = append(*notes, fmt.Sprintf("%s: %s: keyring left out: %s", s.Where, s.URL, t))
			}
		}
		return a, ""
	}
	if len(troubles) == 0 {
		troubles = []string{"no keyring signs it; give it a Signed-By" + keyringHint(s.URL, "")}
	}
	return a, strings.Join(troubles, "; ")
}

// ofUbuntu are the archives of Ubuntu.
func ofUbuntu(root string) (archives Archives, err error) {
	keyring := filepath.Join(root, aptconf.UbuntuKeyring)
	if _, err := keyrings.ReadFile(keyring); err != nil {
		return nil, fmt.Errorf("this machine's apt names no archive, and for Ubuntu's a keyring is missing: %s; %s",
			files.Trouble(keyring, err, " (install the package ubuntu-keyring, or copy the file from an Ubuntu host)"), "or "+adviseFile)
	}
	for _, k := range aptconf.UbuntuArchives() {
		a := New(k.Name)
		a.Upstream, a.Aliases = k.URLs[0], k.URLs[1:]
		a.SignedBy = []string{keyring}
		archives = append(archives, a)
	}
	return archives, nil
}
