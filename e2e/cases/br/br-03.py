#!/usr/bin/env python3
"""BR-03: what the product tells people to write on a host must leave the host's own https sources working, or the refusal must say what to write."""
from brlab import *

LIMIT = 300


def trial(lab):
    import ssl
    k = lab.key("a")
    files = simple(k, [("hello", "1", deb("hello"))], NOW - 7200)
    up = Up(lab, files, NOW - 7200)
    tls = Up(lab, files, NOW - 7200)
    cert, ckey = lab.dir + "/c.pem", lab.dir + "/k.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ckey, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    tls.stop()
    time.sleep(0.2)
    tls.start()
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert, ckey)
    tls.httpd.socket = ctx.wrap_socket(tls.httpd.socket, server_side=True)
    surl = tls.url.replace("http", "https")
    archives = {"a": {"upstream": up.url, "signed_by": [k.file], "aliases": ["http://archive.example.org/debian"]}}
    # what the node prints at its start, and what its page says
    n = Node(lab, archives)
    setting = n.run("client-config")[1] if SUT == "aptmesh" else f'Acquire::http::Proxy "{n.url}"; Acquire::https::Proxy "DIRECT";'
    if "Acquire::http::Proxy" not in setting:
        raise Broken("no settings were printed: " + setting[:200])
    say("printed:", setting)
    lines = f"deb [signed-by={k.file}] http://archive.example.org/debian noble main\ndeb [signed-by={k.file}] {surl} noble main"
    ca = f'Acquire::https::CAInfo "{cert}";'
    plain = Host(lab, lines.splitlines()[1], ca)
    if bad := plain.update():
        raise Broken("https direct: " + bad)
    say("https without any proxy: fine")
    h = Host(lab, lines, ca, setting)
    bad = h.update()
    say("with the printed line:", bad or "fine")
    if bad:
        say("\n".join(l for l in h.said.splitlines() if "CONNECT" in l or "403" in l)[:500])
    h2 = Host(lab, lines, ca, f'Acquire::http::Proxy "{n.url}";', 'Acquire::https::Proxy "DIRECT";')
    bad2 = h2.update()
    say('with Acquire::https::Proxy "DIRECT" added:', bad2 or "fine")
    c = ask(n.url, method="CONNECT", target="127.0.0.1:%d" % tls.port)
    say("CONNECT:", c)
    # the https archive is configured at the node, the host still asks by https
    n2 = Node(lab, {"s": {"upstream": surl, "signed_by": [k.file]}}, env={"SSL_CERT_FILE": cert}, name="n2")
    c2 = ask(n2.url, method="CONNECT", target="127.0.0.1:%d" % tls.port)
    say("CONNECT to the host of a configured https archive:", c2)
    c3 = Host(lab, lines.splitlines()[1], ca, f'Acquire::http::Proxy "{n2.url}";')
    say("apt then:", c3.update())
    say([l for l in c3.said.splitlines() if "W:" in l or "E:" in l or "rr:" in l][:4])
    with open("README.md") as f:
        readme = f.read()
    readme_ok = re.search(r"https::Proxy", readme) is not None
    say("README.md has https::Proxy:", readme_ok)
    expect(not bad, f"with exactly the printed line ({setting}) a host's https source fails: {bad[:170] if bad else ''}")


sys.exit(main(trial, LIMIT))
