"""M3: the admin interface must refuse what a web page in a browser on the machine can send: POSTs of a foreign origin, and
requests under a foreign Host (DNS rebinding)."""
from lab import *


def check(lab):
    a, up = Archive(lab), lab.upstream()
    a.add("noble", "hello")
    old = a.publish("noble")
    a.publish("noble")
    new = a.files["dists/noble/InRelease"]
    nodes = lab.cluster(2, archive_yaml("ubuntu", up.mount("/ubuntu", a), a.keyring, suites=["noble"]))
    n, path = nodes[0], "ubuntu/dists/noble/InRelease"
    need(n.get(path).body == new and n.refresh("ubuntu/noble").ok, "InRelease and an honest refresh")
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"}
    seen = []
    if not ATTACK: foreign = {"Origin": "http://evil.example", "Host": n.admin[7:]}
    for p in ("/v1/status", "/metrics", "/debug/pprof/cmdline") if ATTACK else ():
        r = get(n.admin + p, headers={"Host": "evil.example:3144"})
        note("GET %s with Host evil.example:3144 -> %s" % (p, r))
        if r.ok: seen.append("GET %s by a rebound name" % p)
    a.files["dists/noble/InRelease"] = old  # a mirror that replays
    r = get(n.admin + "/v1/refresh?suite=ubuntu/noble&older=1", method="POST" if ATTACK else "PUT", headers=foreign)
    back = n.get(path).body == old
    note("POST /v1/refresh&older=1 of Origin http://evil.example -> %s, rolled back: %s" % (r, back))
    if r.ok: seen.append("POST refresh&older=1 of a foreign origin (%s)" % ("the suite went back a generation" if back else r.status))
    r = get(n.admin + "/v1/leave", method="POST" if ATTACK else "PUT", headers=foreign)
    end = time.monotonic() + 8
    while time.monotonic() < end and n.proc.poll() is None: time.sleep(0.1)
    note("POST /v1/leave of Origin http://evil.example -> %s; the node's process %s" % (r, "runs" if n.proc.poll() is None else "ended with %d" % n.proc.returncode))
    if n.proc.poll() is not None: seen.append("POST leave of a foreign origin (the node's process ended)")
    m = nodes[1]
    r = subprocess.run([BIN, "leave", "--config", os.path.join(m.dir, "aptmesh.yaml")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=15) if seen or m.proc.poll() is None else None
    need(r is None or r.returncode == 0, "control: `aptmesh leave` itself works: %s" % (r and r.stdout))
    if seen: raise Fault("; ".join(seen))
    return "all refused, and aptmesh's own commands work"


main(check)
