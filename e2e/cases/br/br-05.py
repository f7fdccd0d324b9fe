#!/usr/bin/env python3
"""BR-05: CONNECT goes through the parent proxy, as everything else does (upstream.proxy, or the environment's)."""
from brlab import *

LIMIT = 200


def tunnel(node, target):
    """What comes of a CONNECT: (status line, echo, seconds)."""
    began = time.time()
    host, port = node.addr.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as s:
        s.settimeout(40)
        s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head and (got := s.recv(4096)):
            head += got
        line, echo = head.split(b"\r\n")[0].decode(), b""
        if " 200" in line:
            s.sendall(b"ping")
            s.settimeout(5)
            try:
                echo = s.recv(100)
            except OSError:
                pass
        else:
            line += " " + head.split(b"\r\n\r\n", 1)[-1][:200].decode(errors="replace")
            try:
                s.settimeout(1)
                line += s.recv(400).decode(errors="replace")[:200]
            except OSError:
                pass
        return line, echo, time.time() - began


def parent(lab, status=200):
    def hook(h, path):
        if h.command != "CONNECT":
            h.reply(200, b"through the parent\n", path=h.path)
            return True
        with p.lock:
            p.log.append({"path": h.path, "method": "CONNECT", "auth": h.headers.get("Proxy-Authorization")})
        if status != 200:
            h.reply(status, b"the parent says no\n", path=h.path)
            return True
        h.connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
        h.connection.settimeout(5)
        h.connection.sendall(b"pong:" + h.connection.recv(100))
        h.close_connection = True
        return True
    p = Up(lab)
    p.hook = hook
    return p


def trial(lab):
    k = lab.key("a")
    archives = {"a": {"upstream": "http://archive.test/ubuntu", "signed_by": [k.file]}}
    bad = []
    for what, cfg, env in (
        ("upstream.proxy", lambda p: {"upstream_client": {"proxy": p.url}}, lambda p: {}),
        ("environment", lambda p: {}, lambda p: {"https_proxy": p.url, "http_proxy": p.url}),
        ("with user and password", lambda p: {"upstream_client": {"proxy": p.url.replace("//", "//luser:lpass@")}}, lambda p: {}),
    ):
        p = parent(lab)
        n = Node(lab, archives, {"connect_allow": ["changelogs.test:443"], **cfg(p)}, env=env(p), name="n" + str(len(bad)))
        g = n.get("/a/dists/noble/InRelease", timeout=30)
        plain = [e for e in p.log if e["method"] != "CONNECT"]
        line, echo, took = tunnel(n, "changelogs.test:443")
        seen = [e for e in p.log if e["method"] == "CONNECT"]
        say(f"{what}: plain requests through the parent: {len(plain)}; CONNECT: {line!r} echo {echo!r} {took:.2f} s; the parent saw {[(e['path'], e['auth']) for e in seen]}")
        if echo != b"pong:ping" or len(seen) != 1 or ("user" in what and not seen[0]["auth"]):
            bad.append(f"{what}: {line[:130]} (parent saw {len(seen)} CONNECT, {len(plain)} plain)")
    p = parent(lab, 407)
    n = Node(lab, archives, {"connect_allow": ["changelogs.test:443"], "upstream_client": {"proxy": p.url}}, name="n9")
    say("a parent that refuses:", tunnel(n, "changelogs.test:443"))
    # no_proxy: goes straight
    echo = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: [c.sendall(b"pong:" + c.recv(100)) for c, _ in [echo.accept()]], daemon=True).start()
    target = "127.0.0.1:%d" % echo.getsockname()[1]
    n = Node(lab, archives, {"connect_allow": [target]}, name="n8")
    say("no proxy at all:", tunnel(n, target))
    expect(not bad, " / ".join(bad))


sys.exit(main(trial, LIMIT))
