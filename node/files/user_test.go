package files

import (
	"os"
	"path/filepath"
	"testing"
)

// What a user may read is what the owner, the group and the mode of the file and of every directory above
// it say.
func TestRefuses(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{top, filepath.Dir(top)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, group := uint32(os.Getuid()), uint32(os.Getgid())
	stranger := &User{Name: "stranger", id: own + 4711, groups: []uint32{group + 4711}}
	member := &User{Name: "member", id: own + 4711, groups: []uint32{group + 4711, group}}
	owner := &User{Name: "owner", id: own}
	name := filepath.Join(top, "dir", "file")
	link := filepath.Join(top, "link")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(name)
	for _, tt := range []struct {
		file, dir os.FileMode
		who       *User
		ask, want string
		isDir     bool
	}{
		{0o600, 0o755, stranger, name, name, false},
		{0o600, 0o755, stranger, link, link, false},
		{0o600, 0o755, owner, name, "", false},
		{0o640, 0o750, member, name, "", false},
		{0o640, 0o755, stranger, name, name, false},
		{0o604, 0o755, member, name, name, false}, // the group's bits count, not those of all
		{0o644, 0o700, stranger, name, dir, true},
		{0o644, 0o744, stranger, name, dir, true},
		{0o644, 0o711, stranger, name, "", false},
		{0o644, 0o711, stranger, dir, dir, false}, // to list it takes more
		{0o644, 0o744, stranger, dir, dir, false}, // nor is that enough
		{0o644, 0o755, stranger, dir, "", false},
		{0o644, 0o755, stranger, name + "x", "", false},
	} {
		if err := os.Chmod(name, tt.file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, tt.dir); err != nil {
			t.Fatal(err)
		}
		if at, isDir := tt.who.Refuses(tt.ask); at != tt.want || isDir != tt.isDir {
			t.Errorf("%s asks for %s, %o in %o: %q, %v", tt.who.Name, tt.ask, tt.file, tt.dir, at, isDir)
		}
	}
}

func TestLookUpUser(t *testing.T) {
	if u, err := LookUpUser("root"); err != nil || u.id != 0 || u.Name != "root" {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := LookUpUser("nobody-of-this-name"); err == nil {
		t.Errorf("%+v", u)
	}
}
