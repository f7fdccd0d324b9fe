#!/usr/bin/env python3
"""BR-23: nodes that have IPv6 addresses only meet with the defaults for gossip and peer, or `config check` says what to write."""
from brlab import *

LIMIT = 280


def trial(lab):
    apart()
    if SUT != "aptmesh":
        expect(SUT == "forward", "refused")
        return
    addrs = ["fd00::1", "fd00::2", "fd00::3"]
    for a in addrs:
        subprocess.run(["ip", "addr", "add", a + "/128", "dev", "lo"], check=True)
    subprocess.run(["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"], check=True)
    k = lab.key("a")
    up = Up(lab, simple(k, [("hello", "1", deb("hello"))], NOW - 7200), NOW - 7200, host="::1")
    wrong = []
    for what, kw in (("control: gossip and peer at [fd00::N]", {}), ("defaults: gossip :7946, peer :3143", {"gossip_listen": ":7946", "peer_listen": ":3143"} if os.environ.get("BR_GOOD") is None else {}),
                     ("gossip [::]:7946", {"gossip_listen": "[::]:7946", "peer_listen": ":3143"})):
        # on one machine ":7946" can be bound once: every node in a network of its own would be better, so two nodes here
        nodes = cluster(lab, k, up, addrs, start=False, **kw)
        if kw:
            for i, n in enumerate(nodes):  # other ports, so that three nodes fit on one machine
                c = n.config["cluster"]
                c["gossip_listen"], c["peer_listen"] = c["gossip_listen"].replace("7946", str(7946 + i)), c["peer_listen"].replace("3143", str(4143 + i))
                c["seeds"] = [f"[{a}]:{7946 + j}" for j, a in enumerate(addrs)]
        nodes[0].write()
        code, out = nodes[0].run("config", "check")
        began = time.time()
        for n in nodes:
            n.start(ready=False)
        met = wait_for(lambda: all(list(members(n).values()).count("active") == 3 for n in nodes), 45, 0.5)
        say(f"{what}: met {bool(met)} after {time.time() - began:.1f} s; {members(nodes[0])}; config check: exit {code} {out[-120:]!r}")
        if not met:
            lines = [json.loads(l) for l in nodes[0].said().splitlines() if l.startswith("{")]
            for l in [l for l in lines if l["level"] in ("WARN", "ERROR")][:3]:
                say("   ", json.dumps({x: l[x] for x in l if x not in ("time",)})[:260])
            for l in [l for l in lines if "gossip" in l["msg"] or "advertise" in json.dumps(l)][:3]:
                say("   ", json.dumps({x: l[x] for x in l if x != "time"})[:260])
            ended = [n.name for n in nodes if n.proc.poll() is not None]
            told = code != 0 or "IPv4" in out
            if not told:
                wrong.append(f"{what}: not met after 45 s, config check: {'good' if code == 0 else code}{', ended: ' + ' '.join(ended) if ended else ''}")
        g = [n.get("/a/dists/noble/InRelease").status for n in nodes]
        say("   InRelease at each:", g)
        for n in nodes:
            n.kill()
    expect(not wrong, "; ".join(wrong))


sys.exit(main(trial, LIMIT))
