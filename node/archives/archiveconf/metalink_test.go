package archiveconf

import "testing"

// Each repository below an archive has its own metalink. What a client asks for can change nothing in
// the URL but the place of a star.
func TestMetalinks(t *testing.T) {
	a := New("fedora")
	a.Metalink = []string{
		"releases/*/Everything/*/os https://m.example.org/metalink?repo=fedora-{1}&arch={2}",
		"./ https://m.example.org/metalink?repo=top",
		"/updates/testing/Everything/*/ https://m.example.org/metalink?repo=testing&arch={1}",
		"updates/*/Everything/* https://m.example.org/metalink?arch={2}&repo=updates-released-f{1}",
	}
	of, err := a.Metalinks()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"releases/40/Everything/x86_64/os":        "https://m.example.org/metalink?repo=fedora-40&arch=x86_64",
		"releases/40&repo=x/Everything/x86 64/os": "https://m.example.org/metalink?repo=fedora-40%26repo%3Dx&arch=x86+64",
		"releases/{2}/Everything/y/os":            "https://m.example.org/metalink?repo=fedora-%7B2%7D&arch=y",
		"updates/40/Everything/aarch64":           "https://m.example.org/metalink?arch=aarch64&repo=updates-released-f40",
		"updates/testing/Everything/aarch64":      "https://m.example.org/metalink?repo=testing&arch=aarch64",
		"":                                        "https://m.example.org/metalink?repo=top",
		"releases/40/Everything/x86_64/debug":     "",
		"updates/40/Everything/aarch64/debug":     "",
		"updates/40/Everything":                   "",
	} {
		if got := of(dir); got != want {
			t.Errorf("%q: %q, want %q", dir, got, want)
		}
	}
	a.Metalink = []string{"https://m.example.org/metalink?repo=one"}
	if of, err = a.Metalinks(); err != nil || of("any/where") != a.Metalink[0] {
		t.Errorf("%v", err)
	}
	a.Metalink = nil
	if of, err = a.Metalinks(); of != nil || err != nil {
		t.Errorf("%v", err)
	}
}
