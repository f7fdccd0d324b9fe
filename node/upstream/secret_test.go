package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// Everything that can hold a secret, printed in every way we can think of.
func TestSecretsAreNeverPrinted(t *testing.T) {
	const leak = "s3cret"
	u, err := url.Parse("https://user-s3cret:pass-s3cret@archive.example.org/debian")
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := ParseProxy("http://user-s3cret:pass-s3cret@proxy.example.org:3128")
	if err != nil {
		t.Fatal(err)
	}
	creds := Credentials{User: "user-s3cret", Password: NewSecret("pass-s3cret"), Bearer: NewSecret("token-s3cret"), Query: NewSecret("sig=s3cret")}
	entry := AuthEntry{Host: "example.org", Credentials: creds}
	cfg := filled(Config{Archives: []Archive{{Name: "a", Mirrors: []Mirror{{URL: u, Credentials: creds}}}}, Auth: []AuthEntry{entry}, Settings: Settings{Proxy: proxy}})
	defaults, err := newSettings(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// fmt calls no methods on what is in unexported fields.
	hidden := struct{ secret, other Secret }{secret: NewSecret(leak)}
	for _, v := range []any{
		NewSecret(leak), new(NewSecret(leak)), []Secret{NewSecret(leak)}, map[string]Secret{"k": NewSecret(leak)},
		creds, &creds, entry, []AuthEntry{entry}, cfg.Archives[0], cfg.Archives, cfg.Archives[0].Mirrors, proxy,
		struct{ S Secret }{NewSecret(leak)}, struct{ C Credentials }{creds},
		defaults.archives,
	} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		for _, got := range []string{string(text), log.String(), fmt.Sprint(v), fmt.Sprintf("%s %v %+v %#v %q %x", v, v, v, v, v, v)} {
			if strings.Contains(got, leak) || strings.Contains(got, fmt.Sprintf("%x", leak)) {
				t.Errorf("%T: %s", v, got)
			}
		}
	}
	for _, got := range []string{
		fmt.Sprintf("%v %+v", cfg, cfg),
		fmt.Sprintf("%v %+v %#v %d", hidden, hidden, hidden, hidden),
	} {
		if strings.Contains(got, leak) {
			t.Errorf("printed %s", got)
		}
	}
}

func TestSecret(t *testing.T) {
	var none Secret
	some := NewSecret("abc")
	if some.Reveal() != "abc" || some.IsZero() || some.String() != "***" {
		t.Errorf("%q %q", some.Reveal(), some)
	}
	if none.Reveal() != "" || !none.IsZero() || none.String() != "" || !NewSecret("").IsZero() {
		t.Errorf("%q %q", none.Reveal(), none)
	}
}

func TestMirrorTakesCredentialsOutOfItsURL(t *testing.T) {
	u, _ := url.Parse("HTTP://bearer:t%40ken@Archive.Example.ORG/ubuntu")
	a, err := Mirror{URL: u}.checked("esm")
	if err != nil {
		t.Fatal(err)
	}
	if a.URL.String() != "http://archive.example.org/ubuntu" || a.Credentials.User != "bearer" || a.Credentials.Password.Reveal() != "t@ken" {
		t.Errorf("%s, %q, %q", a.URL, a.Credentials.User, a.Credentials.Password.Reveal())
	}
	if u.User == nil {
		t.Error("the caller's URL was changed")
	}
	a, err = Mirror{URL: u, Credentials: Credentials{Bearer: NewSecret("other")}}.checked("esm")
	if err != nil || a.Credentials.header() != "Bearer other" {
		t.Errorf("%q, %v", a.Credentials.header(), err)
	}
}
