#!/usr/bin/env python3
"""BR-18: a node whose way out leads back to itself says so: at the start, or in the answer, at once."""
from brlab import *

LIMIT = 280


def trial(lab):
    k = lab.key("a")
    wrong = []

    def look(what, n, *names):
        for name in names or ("dists/noble/InRelease", "pool/main/h/hello/hello_1_amd64.deb"):
            a = n.get("/a/" + name, timeout=100)
            text = a.body.decode(errors="replace").strip()
            named = re.search(r"itself|loop|this very node|this node as", text, re.I)
            say(f"{what}: {name.rsplit('/')[-1]}: {a.status} after {a.took:.1f} s: {text[:330] if a.status != 200 else ''}")
            if a.status != 200 and (a.took > 3 or not named):
                wrong.append(f"{what}, {name.rsplit('/')[-1]}: {a.status} after {a.took:.1f} s{'' if named else ', no word of a loop'}")
        if SUT == "aptmesh":
            say(f"   lines in the node's access log: {len(n.access().splitlines())}")

    # (a) the environment's http_proxy is the node
    addr = f"127.0.0.1:{free_port()}"
    up = {"upstream": "http://archive.test/ubuntu", "signed_by": [k.file]}
    if SUT != "aptmesh":
        up["upstream"] = Up(lab, simple(k, [("hello", "1", deb("hello"))], NOW - 7200)).url
    env = {"http_proxy": "http://" + addr}
    n = Node(lab, {"a": up}, env=env, listen=addr)
    if SUT == "aptmesh":
        p = subprocess.run([BINARY, "config", "check", "--config", n.file], env={**os.environ, **env}, capture_output=True, timeout=20)
        say("config check:", (p.stdout + p.stderr).decode().strip()[-200:])
    look("(a) http_proxy is this node", n)
    n.kill()
    # (b) the archive's name leads to the node
    port = free_port()
    hosts = lab.dir + "/hosts"
    with open(hosts, "w") as f:
        f.write("127.0.0.1 localhost archive.test\n")
    u = {"upstream": f"http://archive.test:{port}/", "signed_by": [k.file]} if SUT == "aptmesh" else up
    n = Node(lab, {"a": u}, listen=f"127.0.0.1:{port}", name="nb", prefix=["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"])
    look("(b) the archive's name leads here", n)
    n.kill()
    if SUT == "aptmesh":
        u = {**u, "upstream": f"http://archive.test:{port}/a"}
        n = Node(lab, {"a": u}, listen=f"127.0.0.1:{port}", name="nb2", prefix=["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"])
        look("(b2) the same, and the path fits", n)
        n.kill()
    # (c) two nodes that are each other's parent
    x, y = free_port(), free_port()
    a = Node(lab, {"a": up}, {"upstream_client": {"proxy": f"http://127.0.0.1:{y}"}}, listen=f"127.0.0.1:{x}", name="nx", start=False)
    b = Node(lab, {"a": up}, {"upstream_client": {"proxy": f"http://127.0.0.1:{x}"}}, listen=f"127.0.0.1:{y}", name="ny", start=False)
    a.start()
    b.start()
    look("(c) two nodes, each the other's parent", a)
    expect(not wrong, "; ".join(wrong))


sys.exit(main(trial, LIMIT))
