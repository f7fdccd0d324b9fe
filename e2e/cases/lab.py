"""A laboratory for black-box checks of aptmesh: a signed archive, a scriptable upstream, nodes, apt.

Only the standard library, gpg and (for Apt) apt. $APTMESH_BIN is the binary. All is on loopback, in a temporary
directory and on addresses of its own (127.X.Y.Z, so fixed ports clash with nobody), and ends with the process.
A check is a function of a Lab, run by main(): it raises Fault("what was seen") where aptmesh misbehaves (exit 1),
Broken where the laboratory's own control fails (exit 2), and else returns a line (exit 0)."""
import ctypes, gzip, hashlib, http.client, json, lzma, os, random, shutil, signal, subprocess, sys
import tempfile, threading, time, traceback, urllib.parse
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BIN = os.path.abspath(os.environ.get("APTMESH_BIN", "bin/aptmesh"))
DOOR, PEER, ADMIN, GOSSIP = 3142, 3143, 3144, 7946
ATTACK = not os.environ.get("LAB_HONEST")  # LAB_HONEST=1 leaves the attack out of each check, which must pass then

class Fault(Exception): "aptmesh misbehaves; the text says what was seen"
class Broken(BaseException): "the honest case did not work: nothing can be said"

def main(check, limit=50):
    """Runs check in a Lab, prints one final line, exits 0, 1 or 2."""
    def late(*_): raise Broken("the check took longer than %d s" % limit)
    def ended(*_): raise SystemExit(2)
    signal.signal(signal.SIGALRM, late); signal.signal(signal.SIGTERM, ended)
    signal.alarm(limit)
    lab, code = None, 2
    try:
        lab = Lab()
        line, code = "ok: %s" % check(lab), 0
    except Fault as e: line, code = "FAULT: %s" % e, 1
    except BaseException as e:
        traceback.print_exc()
        line = "BROKEN: %s: %s" % (type(e).__name__, e)
        for n in (lab.nodes if lab else []): print("--- end of the log of", n.name, "\n" + n.log()[-1500:])
    finally:
        signal.alarm(0)
        if lab: lab.close()
    print(line, flush=True)
    os._exit(code)

def note(*words): print("  ", *words, flush=True)
def need(ok, what):
    if not ok: raise Broken(what)
def sha(b): return hashlib.sha256(b).hexdigest()
def environ(**more): return dict({k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}, **more)
def noise(n, seed): return random.Random(str(seed)).randbytes(n)

def own_network(*addresses):
    """A network of this process's own (Linux, root): loopback with further addresses, which no packet leaves. To be
    called first in a check; False where that is not allowed."""
    if ctypes.CDLL(None).unshare(0x40000000): return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for a in addresses: subprocess.run(["ip", "addr", "add", a + "/32", "dev", "lo"], check=True)
    return True

def until(what, fn, within=15, every=0.05):
    """Waits until fn() is true and returns that; Broken after within seconds."""
    end = time.monotonic() + within
    while not (v := fn()):
        need(time.monotonic() < end, "not within %gs: %s" % (within, what))
        time.sleep(every)
    return v

class Lab:
    def __init__(self):
        need(os.access(BIN, os.X_OK), "no binary at $APTMESH_BIN (%s)" % BIN)
        self.dir = tempfile.mkdtemp(prefix="aptmesh-lab-")
        self.net = "127.%d.%d." % (random.randrange(64, 127), random.randrange(1, 255))
        self.nodes, self.servers, self.apts, self._homes = [], [], 0, []
        self.key = self.newkey("Archive Key <archive@example.org>")

    def newkey(self, uid):
        """A key of its own home; returns (gpg home, keyring file)."""
        home = tempfile.mkdtemp(prefix="gpg-", dir=self.dir)
        self._homes.append(home)
        gpg(home, "--quick-gen-key", "--passphrase", "", uid, "ed25519", "sign", "never")
        ring = os.path.join(home, "public.gpg")
        with open(ring, "wb") as f: f.write(gpg(home, "--export"))
        return home, ring

    def upstream(self, host=None):
        self.servers.append(Upstream(host or self.net + str(200 + len(self.servers))))
        return self.servers[-1]

    def node(self, archives, more="", start=True, **kw):
        n = Node(self, "n%d" % (len(self.nodes) + 1), self.net + str(len(self.nodes) + 1), archives, more, **kw)
        self.nodes.append(n)
        return n.start() if start else n

    def cluster(self, count, archives, more="", own=None, **kw):
        """Nodes n1.. with the keys of `aptmesh cluster init`, all active. own has what differs for a node: {"n2": {"proxy": URL}}."""
        keys = os.path.join(self.dir, "cluster")
        names = ["n%d" % (i + 1) for i in range(count)]
        subprocess.run([BIN, "cluster", "init", "--name", "lab", "--nodes", ",".join(names), "--dir", keys], check=True, stdout=subprocess.DEVNULL)
        for i, name in enumerate(names):
            addr = self.net + str(i + 1)
            mine = dict(kw, **(own or {}).get(name, {}))
            self.node(mine.pop("archives", archives), more + """
cluster: {name: lab, gossip_listen: "%(a)s:%(g)d", peer_listen: "%(a)s:%(p)d", advertise: %(a)s, seeds: [%(seeds)s],
  gossip_key: %(k)s/gossip.key, ca: %(k)s/ca.pem, cert: %(k)s/cert.pem, key: %(k)s/key.pem}
""" % dict(a=addr, g=GOSSIP, p=PEER, k=os.path.join(keys, name), seeds=", ".join(self.net + str(j + 1) for j in range(count))), start=False, **mine)
        for n in self.nodes: n.spawn()
        for n in self.nodes: n.await_ready()
        def agrees(n):
            m = n.status().get("cluster", {}).get("members", [])
            return len(m) == count and all(x["state"] == "active" and x["ring_agrees"] and (x["name"] == n.name or x["health"] == "ok") for x in m)
        until("all nodes agree", lambda: all(agrees(n) for n in self.nodes), 25, 0.2)
        return self.nodes

    def apt(self, *a, **kw): return Apt(self, *a, **kw)
    def close(self):
        for n in self.nodes: n.kill()
        for s in self.servers: s.close()
        for h in self._homes: subprocess.run(["gpgconf", "--homedir", h, "--kill", "all"], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

def gpg(home, *args, data=None):
    return subprocess.run(["gpg", "--homedir", home, "--batch", "--no-tty", "-q", "--pinentry-mode", "loopback", *args], input=data, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

class Package:
    def __init__(self, **kw): self.__dict__.update(kw)
    def stanza(self):
        return ("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: A <a@example.org>\nDescription: x\nFilename: %s\n"
                "Size: %d\nSHA256: %s\n\n" % (self.name, self.version, self.arch, self.path, self.size, self.sha))

class Archive:
    """files maps paths below the archive's root to bytes; generations add to it, by-hash names stay."""
    def __init__(self, lab, key=None, origin="Lab"):
        self.lab, self.home, self.keyring, self.origin = lab, *(key or lab.key), origin
        self.files, self.suites, self.clock = {}, {}, int(time.time()) - 86400

    def add(self, suite, name, data=None, comp="main", arch="amd64", path=None, size=None, digest=None, put=True, version="1"):
        """Adds a package of random bytes to the next generation; put=False lists it only."""
        if data is None: data = noise(size or 100_000, name) if put or digest is None else b""
        path = path or "pool/%s/%s/%s/%s_%s_%s.deb" % (comp, name[0], name, name, version, arch)
        p = Package(name=name, version=version, arch=arch, path=path, data=data, size=len(data) if size is None else size, sha=digest or sha(data))
        if put: self.files[path] = data
        self.suites.setdefault(suite, {}).setdefault((comp, arch), []).append(p)
        return p

    def release(self, suite, date=None, members=None, **fields):
        """The text of a Release of the suite as it is now, its indices being put into files. members: {name: (digest, size)}."""
        listed, have = {}, self.suites.get(suite, {})
        for (comp, arch), packages in have.items():
            text, at = "".join(p.stanza() for p in packages).encode(), "%s/binary-%s/" % (comp, arch)
            listed[at + "Packages"] = (sha(text), len(text))
            for ext, data in ((".gz", gzip.compress(text, mtime=0)), (".xz", lzma.compress(text))):
                listed[at + "Packages" + ext] = (sha(data), len(data))
                for name in ("Packages" + ext, "by-hash/SHA256/" + sha(data)): self.files["dists/%s/%s%s" % (suite, at, name)] = data
        listed.update(members or {})
        if date is None: self.clock = date = self.clock + 60
        head = {"Origin": self.origin, "Label": self.origin, "Suite": suite, "Codename": suite, "Date": formatdate(date, usegmt=True).replace("GMT", "UTC"),
                "Acquire-By-Hash": "yes", "Architectures": " ".join(sorted({a for _, a in have}) or ["amd64"]), "Components": " ".join(sorted({c for c, _ in have}) or ["main"])}
        head.update(fields)
        return ("".join("%s: %s\n" % kv for kv in head.items()) + "SHA256:\n" + "".join(" %s %d %s\n" % (d, n, m) for m, (d, n) in sorted(listed.items()))).encode()

    def sign(self, suite, text):
        dir = "dists/%s/" % suite
        self.files[dir + "Release"] = text
        self.files[dir + "Release.gpg"] = gpg(self.home, "-a", "--digest-algo", "SHA512", "--detach-sign", data=text)
        self.files[dir + "InRelease"] = gpg(self.home, "--digest-algo", "SHA512", "--clearsign", data=text)
        return self.files[dir + "InRelease"]

    def publish(self, suite, **kw): return self.sign(suite, self.release(suite, **kw))
    def index(self, suite, comp="main", arch="amd64", ext=".xz"):
        """(by-hash path, digest, bytes) of an index of the newest generation."""
        data = self.files["dists/%s/%s/binary-%s/Packages%s" % (suite, comp, arch, ext)]
        return "dists/%s/%s/binary-%s/by-hash/SHA256/%s" % (suite, comp, arch, sha(data)), sha(data), data

class Upstream:
    """Serves mounted archives. hooks see each request first: hook(req) answers it and returns True, or returns None."""
    def __init__(self, host):
        up = self
        self.hooks, self.mounts, self.count, self.log, self.lock = [], {}, Counter(), [], threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version, timeout = "HTTP/1.1", 60
            def log_message(self, *a): pass
            def do_GET(self):
                self.plain = path = urllib.parse.unquote(self.path)
                with up.lock:
                    up.count[path] += 1
                    up.log.append((time.monotonic(), self.command, path, dict(self.headers)))
                try:
                    for h in list(up.hooks):
                        if h(self): return
                    for prefix, files in up.mounts.items():
                        if path.startswith(prefix + "/") and path[len(prefix) + 1:] in files: return self.file(files[path[len(prefix) + 1:]])
                    self.reply(404, b"no such file")
                except (BrokenPipeError, ConnectionResetError, TimeoutError): self.close_connection = True
            do_HEAD = do_GET

            def file(self, data):
                h = {"ETag": '"%s"' % sha(data)[:16]}
                if self.headers.get("If-None-Match") == h["ETag"]: return self.reply(304, b"", h)
                r = self.headers.get("Range", "")
                if r.startswith("bytes=") and r.endswith("-"):
                    at = int(r[6:-1])
                    h["Content-Range"] = "bytes %d-%d/%d" % (at, len(data) - 1, len(data))
                    return self.reply(206, data[at:], h)
                return self.reply(200, data, h)

            def reply(self, status, body=b"", headers=()):
                self.send_response(status)
                for k, v in dict(headers).items(): self.send_header(k, v)
                if status != 304: self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD" and status != 304:
                    self.wfile.write(body); self.wfile.flush()
                return True

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size, handle_error = True, 256, lambda *a: None
        self.server = Server((host, 0), Handler)
        self.host, self.port = host, self.server.server_address[1]
        self.url = "http://%s:%d" % (host, self.port)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def mount(self, prefix, archive):
        self.mounts[prefix] = archive.files
        return self.url + prefix
    def hits(self, part): return sum(n for p, n in list(self.count.items()) if part in p)
    def close(self): self.server.shutdown(); self.server.server_close()

class Node:
    """archives is the YAML below `archives:`; more is further configuration; cache and upstream are keys of theirs."""
    def __init__(self, lab, name, addr, archives, more="", cache="max_size: 1GiB, memory: 64MiB", upstream="auth_conf: []", proxy="direct"):
        self.lab, self.name, self.addr, self.proc = lab, name, addr, None
        self.url, self.admin = "http://%s:%d" % (addr, DOOR), "http://%s:%d" % (addr, ADMIN)
        self.dir = os.path.join(lab.dir, name)
        self.command = [BIN, "serve", "--config", os.path.join(self.dir, "aptmesh.yaml")]
        os.makedirs(self.dir)
        with open(os.path.join(self.dir, "token"), "w") as f: f.write("a-token-of-the-laboratory\n")
        os.chmod(f.name, 0o600)
        with open(os.path.join(self.dir, "aptmesh.yaml"), "w") as f:
            f.write("""name: %s
listen: ["%s:%d"]
admin: "%s:%d"
admin_token_file: "%s/token"
data: %s/data
cache: {%s}
upstream_client: {proxy: "%s", %s}
prefetch: {enabled: false}
drain: {handoff: 3s, timeout: 3s}
log: {level: info}
archives:
%s
%s
""" % (self.name, self.addr, DOOR, self.addr, ADMIN, self.dir, self.dir, cache, proxy, upstream, archives, more))

    def spawn(self):
        out = open(os.path.join(self.dir, "log"), "ab")
        self.proc = subprocess.Popen(self.command, stdout=out, stderr=out, env=environ(), preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        return self
    def await_ready(self):
        def ready():
            need(self.proc.poll() is None, "%s ended: %s" % (self.name, self.log()[-800:]))
            return get(self.admin + "/ready", timeout=2).status == 200
        until(self.name + " ready", ready, 20)
        return self
    def start(self): return self.spawn().await_ready()
    def kill(self):
        if self.proc and self.proc.poll() is None: self.proc.kill()
        if self.proc: self.proc.wait()
    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f: return f.read()

    def get(self, path, **kw): return get(self.url + "/" + path.lstrip("/"), **kw)
    def status(self): return get(self.admin + "/v1/status", timeout=10).json()
    def why(self, path): return get(self.admin + "/v1/why?url=" + urllib.parse.quote(self.url + "/" + path, safe=""), timeout=10).json()
    def owners(self, path): return until("%s knows the owners of %s" % (self.name, path), lambda: self.why(path).get("owners"))
    def refresh(self, suite, older=False, timeout=30):
        """An answer of POST /v1/refresh: .status, .json()."""
        return get(self.admin + "/v1/refresh?suite=" + urllib.parse.quote(suite, safe="") + ("&older=1" if older else ""), method="POST", timeout=timeout, headers={"Authorization": "Bearer a-token-of-the-laboratory"})
    def suite(self, archive, dir):
        return next((s for a in self.status()["archives"] if a["name"] == archive for s in a["suites"] or [] if s["dir"] == dir), {})
    def rss(self, field="VmRSS"):
        """In MB; VmHWM is the peak."""
        with open("/proc/%d/status" % self.proc.pid) as f:
            return next(int(l.split()[1]) / 1024 for l in f if l.startswith(field + ":"))

class Answer:
    status, headers, error, first, took = 0, {}, "", 0.0, 0.0
    def __init__(self): self.body = bytearray()
    @property
    def text(self): return self.body.decode(errors="replace")
    def json(self): return json.loads(self.body)
    @property
    def listed(self): return dict(f.strip().partition("=")[::2] for f in self.headers.get("X-Aptmesh", "").split(";")).get("listed", "")
    @property
    def ok(self): return self.status == 200 and not self.error
    def __str__(self): return "%s%s (%d bytes, %.2f s)" % (self.status or "no answer", " " + self.error if self.error else "", len(self.body), self.took)

def get(url, method="GET", headers=(), timeout=30, source=None, raw=None):
    """One request on a connection of its own, nothing followed; errors are in the Answer. timeout is for all of it,
    source a local address, raw the path as it is to be sent."""
    u, a, t0 = urllib.parse.urlsplit(url), Answer(), time.monotonic()
    c = http.client.HTTPConnection(u.hostname, u.port or 80, timeout=timeout, source_address=(source, 0) if source else None)
    try:
        c.putrequest(method, raw or (u.path or "/") + ("?" + u.query if u.query else ""), skip_host="Host" in dict(headers), skip_accept_encoding=True)
        for k, v in dict(headers).items(): c.putheader(k, v)
        if method == "POST": c.putheader("Content-Length", "0")
        c.endheaders()
        r = c.getresponse()
        a.status, a.headers, a.first = r.status, dict(r.headers.items()), time.monotonic() - t0
        left = None if r.chunked or "Content-Length" not in r.headers else int(r.headers["Content-Length"])
        while method != "HEAD" and a.status not in (204, 304) and len(a.body) != left:
            b = r.read1(1 << 16 if left is None else min(1 << 16, left - len(a.body)))
            a.body += b
            if not b: a.error = "broken transfer" if left is not None else ""; break
            if time.monotonic() > t0 + timeout: a.error = "given up"; break
    except Exception as e: a.error = "%s: %s" % (type(e).__name__, e)
    finally: c.close()
    a.body, a.took = bytes(a.body), time.monotonic() - t0
    return a

def parallel(*fns):
    """Runs all at once, returns their results in order."""
    out = [None] * len(fns)
    def run(i): out[i] = fns[i]()
    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(fns))]
    for t in threads: t.start()
    for t in threads: t.join()
    return out

class Apt:
    """The real apt in a root of its own. In sources KEYRING is the archive's keyring."""
    def __init__(self, lab, sources, keyring=None):
        lab.apts += 1
        self.dir = d = os.path.join(lab.dir, "apt%d" % lab.apts)
        for sub in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "state/lists/partial", "cache/archives/partial", "log", "work"): os.makedirs(os.path.join(d, sub))
        ring = shutil.copy(keyring or lab.key[1], d + "/keyring.gpg")
        open(d + "/status", "w").close()
        with open(d + "/etc/apt/sources.list", "w") as f: f.write(sources.replace("KEYRING", ring) + "\n")
        with open(d + "/apt.conf", "w") as f:
            f.write('Dir "%s"; Dir::Etc "%s/etc/apt"; Dir::State "%s/state"; Dir::State::status "%s/status"; Dir::Cache "%s/cache"; Dir::Log "%s/log"; APT::Architecture "amd64"; '
                    'APT::Architectures { "amd64"; }; APT::Sandbox::User "root"; Debug::NoLocking "1"; Acquire::Languages "none"; Acquire::Retries "0";\n' % ((d,) * 6))
    def run(self, *args, timeout=40):
        """(exit code, output). apt-get update fails on any error here (--error-on=any)."""
        if args[:1] == ("update",): args += ("--error-on=any",)
        env = environ(APT_CONFIG=self.dir + "/apt.conf", LC_ALL="C.UTF-8")
        p = subprocess.run(["apt-get", *args], cwd=self.dir + "/work", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        return p.returncode, p.stdout.decode(errors="replace")
    def update(self): return self.run("update")

def archive_yaml(name, url, keyring, **more):
    """One entry of `archives:`; lists and strings as YAML takes them from JSON."""
    keys = dict(upstream=url, signed_by=[keyring], **more)
    if more.get("unsigned"): del keys["signed_by"]
    if "upstreams" in more: del keys["upstream"]
    return "  %s:\n" % name + "".join("    %s: %s\n" % (k, json.dumps(v)) for k, v in keys.items())
