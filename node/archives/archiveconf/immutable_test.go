package archiveconf

import (
	"testing"
	"time"
)

func TestNeverChanges(t *testing.T) {
	now := time.Date(2024, 3, 3, 12, 0, 0, 0, time.UTC)
	mirror := func(url string) Mirror { return Mirror{URL: url} }
	for _, tc := range []struct {
		name string
		a    Archive
		want bool
	}{
		{"the live archive", Archive{Upstream: "http://archive.ubuntu.com/ubuntu"}, false},
		{"its own key", Archive{Upstream: "http://archive.ubuntu.com/ubuntu", Immutable: true}, true},
		{"Ubuntu's snapshots", Archive{Upstream: "https://snapshot.ubuntu.com/ubuntu/20240301T000000Z"}, true},
		{"Debian's snapshots", Archive{Upstream: "http://snapshot.debian.org/archive/debian-security/20240301T030405Z"}, true},
		{"Arch Linux Archive", Archive{Upstream: "https://archive.archlinux.org/repos/2024/03/01"}, true},
		{"a repository of it", Archive{Upstream: "https://archive.archlinux.org/repos/2024/03/01/core/os/x86_64"}, true},
		{"its newest day", Archive{Upstream: "https://archive.archlinux.org/repos/last"}, false},
		{"all of it", Archive{Upstream: "https://archive.archlinux.org"}, false},
		{"a date to come", Archive{Upstream: "https://snapshot.ubuntu.com/ubuntu/20990301T000000Z"}, false},
		{"a date of this day", Archive{Upstream: "https://snapshot.ubuntu.com/ubuntu/20240303T010000Z"}, false},
		{"no date", Archive{Upstream: "https://snapshot.ubuntu.com/ubuntu/20241301T000000Z"}, false},
		{"another host", Archive{Upstream: "https://example.org/ubuntu/20240301T000000Z"}, false},
		{"two of one date", Archive{Upstreams: []Mirror{mirror("https://snapshot.ubuntu.com/ubuntu/20240301T000000Z"), mirror("http://snapshot.ubuntu.com/ubuntu/20240301T000000Z")}}, true},
		{"beside the live archive", Archive{Upstreams: []Mirror{mirror("https://snapshot.ubuntu.com/ubuntu/20240301T000000Z"), mirror("http://archive.ubuntu.com/ubuntu")}}, false},
		{"no upstream", Archive{}, false},
	} {
		if got := tc.a.NeverChanges(now); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
