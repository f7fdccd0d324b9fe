package archives

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// Hosts know an archive by its URLs, and have the keyrings that lie where every system has them.
func TestHostArchives(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(key, testarchive.ArmoredKeyring(testarchive.DefaultKey()), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Archives: archiveconf.Archives{
		{Name: "a", Format: "apt", Upstream: "http://user:secret@a.example.org/debian/?token=x", Aliases: []string{"http://*.a.example.org/debian", "http://a.example.org/debian"}, SignedBy: []string{key}},
		{Name: "b", Format: "apt", Upstream: "http://b.example.org", Unsigned: true},
	}}
	suites := []proto.HostSuite{{Dir: "dists/x"}}
	all, err := HostArchives(cfg, map[string][]proto.HostSuite{"a": suites, "gone": suites})
	if err != nil || len(all) != 1 || all[0].Name != "a" || !slices.Equal(all[0].URLs, []string{"http://a.example.org/debian", "http://*.a.example.org/debian"}) {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].SignedBy != nil || !strings.HasPrefix(all[0].Keys, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n") || !reflect.DeepEqual(all[0].Suites, suites) {
		t.Errorf("%+v", all[0])
	}
	for entry, hosts := range map[string]bool{
		"/usr/share/keyrings/ubuntu-archive-keyring.gpg": true, "/etc/apt/keyrings/x.asc": true, "/etc/apt/keyrings/*.gpg": false, "/etc/apt/keyrings": false, "/etc/aptmesh/x.gpg": false,
	} {
		if files, _, _ := hostKeys(archiveconf.Archive{Name: "a", SignedBy: []string{entry}}); (len(files) == 1) != hosts {
			t.Errorf("%s is on hosts: %q", entry, files)
		}
	}
}

// What a parser of YAML reads is what the files have.
func TestFilesAsYAML(t *testing.T) {
	archive := proto.HostArchive{Name: "v", Format: "apt", Keys: "-----BEGIN\n\nx: y # z\n-----END\n", Suites: []proto.HostSuite{{Dir: "dists/x", Indexes: []string{"main/binary-amd64/Packages"}}}}
	rpms := proto.HostArchive{Name: "f", Format: "rpm", Suites: []proto.HostSuite{{Dir: "40/os"}, {Dir: "40/updates"}}}
	dbs := proto.HostArchive{Name: "arch", Format: "pacman", Suites: []proto.HostSuite{{Dir: "core/os/x86_64", Name: "core.db"}}}
	for what, tt := range map[string]struct {
		archives []proto.HostArchive
		form     string
		path     string
		has      string
	}{
		"deb822":   {[]proto.HostArchive{archive}, "", "/etc/apt/sources.list.d/aptmesh.sources", "URIs: http://n/snapshot/v/s\n"},
		"one-line": {[]proto.HostArchive{archive}, FormOneLine, "/etc/apt/sources.list.d/aptmesh.list", "] http://n/snapshot/v/s x main\n"},
		"apt.conf": {[]proto.HostArchive{archive}, FormConf, "/etc/apt/apt.conf.d/30aptmesh", "\"APT::Snapshot\" \"s\";\n"},
		"rpm":      {[]proto.HostArchive{rpms, rpms}, "", "/etc/yum.repos.d/aptmesh.repo", "\nbaseurl=http://n/snapshot/f/s/40/updates\n"},
		"pacman":   {[]proto.HostArchive{dbs}, "", "/etc/pacman.d/aptmesh-snapshot-arch-s", "\nServer = http://n/snapshot/arch/s/$repo/os/$arch\n"},
	} {
		files, _ := SnapshotFiles("http://n", "s", tt.archives, tt.form)
		if what == "rpm" && strings.Count(files[0].Text, "baseurl=") != 4 {
			t.Errorf("two archives in one file: %s", files[0].Text)
		}
		if len(files) != 1 || files[0].Path != tt.path || !strings.Contains(files[0].Content(), tt.has) {
			t.Errorf("%s: %+v", what, files)
			continue
		}
		var tasks []struct {
			Name string
			Copy struct{ Dest, Owner, Group, Mode, Content string } `yaml:"ansible.builtin.copy"`
		}
		if err := yaml.Unmarshal([]byte(Ansible(files)), &tasks); err != nil || len(tasks) != 1 || tasks[0].Copy.Dest != tt.path || tasks[0].Copy.Content != files[0].Content() || tasks[0].Copy.Mode != "0644" {
			t.Errorf("%s: for Ansible: %+v, %v", what, tasks, err)
		}
		var data struct {
			Files []struct{ Path, Owner, Permissions, Content string } `yaml:"write_files"`
		}
		text := CloudInit(files)
		if err := yaml.Unmarshal([]byte(text), &data); err != nil || !strings.HasPrefix(text, "#cloud-config\n") || len(data.Files) != 1 || data.Files[0].Path != tt.path || data.Files[0].Content != files[0].Content() {
			t.Errorf("%s: for cloud-init: %+v, %v", what, data, err)
		}
	}
}
