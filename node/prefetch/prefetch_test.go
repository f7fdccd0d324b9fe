package prefetch

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

// kernel is how Ubuntu publishes one: a package that stays, and depends on another
// whose name has the version in it. release is like 6.8.0-51.
func kernel(release string) string {
	version := release + ".1"
	image, modules := "linux-image-"+release+"-generic", "linux-modules-"+release+"-generic"
	return stanza("linux-generic", version, "amd64", "linux-image-generic (= "+version+"), linux-firmware", 10) +
		stanza("linux-image-generic", version, "amd64", image+" | linux-image-unsigned, linux-firmware (>= 1), amd64-microcode", 20) +
		stanza(image, version, "amd64", "kmod, linux-base (>= 4.5~), "+modules, 3000) +
		stanza(modules, version, "amd64", "", 2000) +
		stanza("linux-image-unsigned", version, "amd64", "", 999) +
		stanza("linux-firmware", "2", "all", "", 40_000) + // is not new
		stanza("linux-base", "4.6", "all", "perl:any", 50) +
		stanza("perl", "5.40", "amd64", "", 60) + // is not new
		stanza("hello", "2.10-4", "amd64", "libc6 (>= 2.34)", 7) +
		stanza("unused", "1", "amd64", "", 100)
}

func kernelIsNew(path string) bool {
	return path != pool("linux-firmware", "2", "all") && path != pool("perl", "5.40", "amd64")
}

func TestKernel(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(func(c *Config) { c.Parallel = 1 })
		p.Used(loc(pool("linux-generic", "6.8.0-50.51", "amd64")))
		p.Switched(w.switched(kernel("6.8.0-51"), kernelIsNew))
		s := settled(t, p)
		want := []string{
			pool("linux-generic", "6.8.0-51.1", "amd64"), pool("linux-image-generic", "6.8.0-51.1", "amd64"),
			pool("linux-image-6.8.0-51-generic", "6.8.0-51.1", "amd64"), pool("linux-base", "4.6", "all"), pool("linux-modules-6.8.0-51-generic", "6.8.0-51.1", "amd64"),
		}
		if got := w.order(); !slices.Equal(got, want) {
			t.Errorf("fetched\n%q, want\n%q", got, want)
		}
		if got := counts(s); !maps.Equal(got, map[Outcome]int64{Fetched: 5}) || s.Bytes != 5080 || w.fetched != 5080 {
			t.Errorf("%v, %d bytes, %d handed out", got, s.Bytes, w.fetched)
		}
		if f := s.Switches; len(f) != 1 || f[0].Suite != updates || f[0].Bytes != 5080 || f[0].Planned != 5080 || !reflect.DeepEqual(f[0].Objects[Fetched], 5) {
			t.Errorf("%+v", f)
		}
	})
}
