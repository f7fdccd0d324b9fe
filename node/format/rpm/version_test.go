package rpm

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// orders are pairs of versions of which the first is the older one.
var orders = [][2]string{
	{"1.0", "2.0"}, {"2.0", "2.0.1"}, {"2.0.1", "2.0.1a"}, {"5.5p1", "5.5p2"}, {"5.5p1", "5.5p10"}, {"10xyz", "10.1xyz"},
	{"xyz10", "xyz10.1"}, {"xyz.4", "8"}, {"xyz.4", "2"}, {"5.5p2", "5.6p1"}, {"5.6p1", "6.5p1"}, {"6.0", "6.0.rc1"},
	{"10a2", "10b2"}, {"1.0a", "1.0aa"}, {"10.0001", "10.0039"}, {"4.999.9", "5.0"}, {"20101121", "20101122"},
	{"1.0~rc1", "1.0"}, {"1.0~rc1", "1.0~rc2"}, {"1.0~rc1~git123", "1.0~rc1"}, {"1.0~rc1", "1.0arc1"}, {"1.0", "1.0^"}, {"1.0", "1.0^git1"},
	{"1.0^git1", "1.0^git2"}, {"1.0^git1", "1.01"}, {"1.0^20160101", "1.0.1"}, {"1.0^20160101^git1", "1.0^20160102"},
	{"1.0~rc1", "1.0~rc1^git1"}, {"1.0^git1~pre", "1.0^git1"}, {"1.0a", "1.0.1"}, {"a", "1"}, {"", "1"}, {"~", ""}, {"", "^"},
}

// equal are pairs of versions that are the same.
var equal = [][2]string{
	{"1.0", "1.0"}, {"1.0", "1_0"}, {"2_0", "2.0"}, {"a+", "a+"}, {"a+", "a_"}, {"+_", "_+"}, {"10.0001", "10.1"}, {"1.0.", "1.0"}, {"b", "b"}, {"001", "1"}, {"", ""},
}

func TestCompareVersions(t *testing.T) {
	for _, p := range orders {
		if compareVersions(p[0], p[1]) >= 0 || compareVersions(p[1], p[0]) <= 0 {
			t.Errorf("%q is not older than %q: %d, %d", p[0], p[1], compareVersions(p[0], p[1]), compareVersions(p[1], p[0]))
		}
	}
	for _, p := range equal {
		if compareVersions(p[0], p[1]) != 0 {
			t.Errorf("%q and %q differ", p[0], p[1])
		}
	}
}

// TestCompareAsRpm holds that the rpm of this machine orders the same.
func TestCompareAsRpm(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed: nothing to compare with")
	}
	var script strings.Builder
	pairs := slices.DeleteFunc(slices.Concat(orders, equal), func(p [2]string) bool { return p[0] == "" || p[1] == "" }) // no versions
	for _, p := range pairs {
		script.WriteString("print(rpm.vercmp('" + p[0] + "','" + p[1] + "') .. ' ')")
	}
	out, err := exec.Command("rpm", "--eval", "%{lua:"+script.String()+"}").Output()
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Fields(string(out))
	if len(said) != len(pairs) {
		t.Fatalf("%d answers to %d questions: %q", len(said), len(pairs), out)
	}
	for i, p := range pairs {
		want := map[string]int{"-1": -1, "0": 0, "1": 1}[said[i]]
		if got := compareVersions(p[0], p[1]); got != want {
			t.Errorf("%q and %q: %d, rpm says %d", p[0], p[1], got, want)
		}
	}
}
