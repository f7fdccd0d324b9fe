package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// findOnLoopback runs a node on port 3142, the only one that auto-apt-proxy looks at, in a network of
// its own, and then the script. It ends with what the script said.
const findOnLoopback = `set -e
ip link set lo up
"$1" serve --config "$2" --log-level error >/dev/null &
node=$!
trap 'kill $node; wait $node' EXIT
for i in $(seq 100); do
  /usr/lib/apt/apt-helper -o Acquire::http::Proxy=DIRECT -o Acquire::Retries=0 download-file http://127.0.0.1:3142/ /dev/null 2>&1 | grep -q 406 && break
  sleep 0.1
done
sh "$3"
`

// auto-apt-proxy, the real script of the oldest and of the newest Debian that is supported, finds a node.
func TestAutoAptProxy(t *testing.T) {
	t.Parallel()
	m := configuredMirror(t)
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine gives no network of its own (%v: %s), and port 3142 may be another's", err, out)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("iproute2 is not installed")
	}
	for _, release := range []string{"bookworm", "sid"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			acquire := must(exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output())(t) // its proxy, above all
			host := must(lab.NewApt(nil, "deb [signed-by="+m.keyring+"] "+m.url+" "+release+" main", string(acquire),
				`Acquire::Languages "none"; Acquire::Check-Valid-Until "false";`))(t)
			t.Cleanup(func() { host.Remove() })
			for _, args := range [][]string{{"-qq", "update"}, {"-qq", "-y", "install", "--download-only", "--no-install-recommends", "auto-apt-proxy"}} {
				if out, err := host.Command(ctx, "apt-get", args...).CombinedOutput(); err != nil {
					t.Skipf("the auto-apt-proxy of %s cannot be had from this machine's mirror: %v\n%s", release, err, out)
				}
			}
			debs, err := filepath.Glob(filepath.Join(host.Dir, "cache/archives/auto-apt-proxy_*.deb"))
			if err != nil || len(debs) != 1 {
				t.Fatalf("packages: %v %v", debs, err)
			}
			dir := t.TempDir()
			if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], dir).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			config := filepath.Join(dir, "aptmesh.yaml")
			text := "listen: [\"127.0.0.1:3142\"]\nadmin: \"\"\ndata: data\narchives: {tools: {upstream: \"http://192.0.2.1/tools\", unsigned: true}}\n"
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", findOnLoopback, "sh", binary, config, filepath.Join(dir, "usr/bin/auto-apt-proxy"))
			cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "AUTO_APT_PROXY_DEBUG=1", "http_proxy=", "LC_ALL=C")
			cmd.WaitDelay = 10 * time.Second
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if strings.TrimSpace(string(out)) != "http://127.0.0.1:3142" {
				t.Errorf("%s finds %q: %v\n%s", filepath.Base(debs[0]), out, err, &errs)
			} else {
				t.Logf("%s finds %s", filepath.Base(debs[0]), out)
			}
		})
	}
}
