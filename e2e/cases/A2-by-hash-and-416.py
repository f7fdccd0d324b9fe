#!/usr/bin/env python3
"""Small reproductions of what apt's test suite found: a tiny archive, a node, requests.

$APTMESH_BIN is the binary; prints expected and actual for each, exits 1 where they differ.
"""
import hashlib, http.server, os, subprocess, sys, tempfile, threading, time, urllib.request, urllib.error, email.utils, socket, gzip

BIN = os.path.abspath(os.environ.get("APTMESH_BIN", "bin/aptmesh"))
tmp = tempfile.mkdtemp(prefix="aptsuite-repro.")
root = os.path.join(tmp, "www")
seen, back = [], ""


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *a):
        super().__init__(*a, directory=root)

    def log_message(self, *a):
        pass

    def do_GET(self):
        seen.append(self.path)
        if self.path.startswith("/dists/c/main"):
            self.send_response(302)
            self.send_header("Location", back + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def put(path, data):
    path = os.path.join(root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def release(suite, members, extra="", hashes=("sha256",), date=None):
    text = f"Suite: {suite}\nDate: {email.utils.formatdate(date or time.time(), usegmt=True)}\n{extra}"
    names = {"md5": "MD5Sum", "sha1": "SHA1", "sha256": "SHA256", "sha512": "SHA512"}
    for h in hashes:
        text += names[h] + ":\n"
        for name, data in members.items():
            text += f" {hashlib.new(h, data).hexdigest()} {len(data)} {name}\n"
    put(f"dists/{suite}/Release", text.encode())


def get(url, **headers):
    req = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(req, timeout=60) as r:
            return r.status, r.read(), dict(r.headers)
    except urllib.error.HTTPError as e:
        return e.code, e.read(), dict(e.headers)


def node(upstream, extra=""):
    p, a = port(), port()
    d = tempfile.mkdtemp(prefix="node.", dir=tmp)
    with open(d + "/c.yaml", "w") as f:
        f.write(f"""name: repro
listen: ["127.0.0.1:{p}"]
admin: "127.0.0.1:{a}"
data: {d}/data
archives:
  x:
    upstream: {upstream.replace("SELF", str(p))}
    unsigned: true
    check_every: 1h
upstream_client: {{proxy: direct, auth_conf: []}}
prefetch: {{enabled: false}}
""")
    proc = subprocess.Popen([BIN, "serve", "--config", d + "/c.yaml"], stdout=open(d + "/log", "w"), stderr=subprocess.STDOUT)
    for _ in range(100):
        try:
            if get(f"http://127.0.0.1:{a}/ready")[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.05)
    return proc, f"http://127.0.0.1:{p}/x"


wrong = []


def show(name, ok, expected, actual):
    if not ok:
        wrong.append(name.split()[0])
    print(f"{name}\n    expected: {expected}\n    actual:   {actual}\n")


www = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=www.serve_forever, daemon=True).start()
up = f"http://127.0.0.1:{www.server_address[1]}"

# An index that upstream has by its hash only.
packages = gzip.compress(b"Package: foo\n\n", mtime=0)
by_hash = "main/binary-amd64/by-hash/SHA256/" + hashlib.sha256(packages).hexdigest()
release("a", {"main/binary-amd64/Packages.gz": packages})  # no Acquire-By-Hash
put("dists/a/" + by_hash, packages)
# The same, announced, but of the weaker of two hashes, while the plain name is newer already.
release("b", {"main/binary-amd64/Packages.gz": packages}, "Acquire-By-Hash: yes\n", ("sha256", "sha512"))
put("dists/b/" + by_hash, packages)
put("dists/b/main/binary-amd64/Packages.gz", packages + b"newer")

proc, base = node(up)
try:
    for suite in "a", "b":
        get(f"{base}/dists/{suite}/Release")
        seen.clear()
        direct = get(f"{up}/dists/{suite}/{by_hash}")[0]
        seen.clear()
        got = get(f"{base}/dists/{suite}/{by_hash}")
        what = "by-hash name, Release without Acquire-By-Hash" if suite == "a" else "by-hash/SHA256 where SHA512 is listed, too, and the plain name is newer"
        show(f"1{suite} {what}", got[0] == direct, f"{direct}, as upstream itself", f"{got[0]} {got[1].decode(errors='replace').strip()[:110]}; upstream was asked for {[s.split('/')[-1][:24] for s in seen]}")
    status, body, h = get(f"{base}/dists/a/Release")
    status, _, h2 = get(f"{base}/dists/a/Release", Range=f"bytes={len(body)}-", **{"If-Range": h["Last-Modified"]})
    show("2  416 for a complete file", status == 416 and bool(h2.get("Last-Modified")), "416 with Last-Modified, from which apt takes the date of its copy and so its next If-Modified-Since",
         f"{status}, Last-Modified: {h2.get('Last-Modified')}, ETag: {h2.get('Etag')}")
finally:
    proc.terminate(); proc.wait()

# An upstream that leads back to the node (a redirector that is reached through it, a name
# that means the node in DNS).
release("c", {"main/binary-amd64/Packages.gz": packages})
proc, base = node(up)
back = base
try:
    get(base + "/dists/c/Release")
    began = time.time()
    status, body, _ = get(base + "/dists/c/main/binary-amd64/Packages.gz")
    show("3  upstream redirects to the node itself", status >= 400 and time.time() - began < 3, "at once, an error that says so", f"{status} after {time.time()-began:.1f} s: {body.decode().strip()[:200]}")
finally:
    proc.terminate(); proc.wait()

print("FAULT: differ: " + ", ".join(wrong) if wrong else "ok")
sys.exit(bool(wrong))
