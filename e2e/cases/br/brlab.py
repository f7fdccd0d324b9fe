# ----------------------------------------------------------------------------
# The lab of all trials. An archive server that can be told to
# misbehave, gpg keys, apt hosts with roots of their own, and the node under test.
# BR_SUT=forward puts a plain forwarder in the node's place, BR_SUT=refuse one
# that answers 502 to all: with them a trial shows that it can say both.
# APTMESH_BIN=path names another binary.
import bz2, calendar, gzip, hashlib, http.client, io, json, lzma, os, random, re, shutil, signal
import socket, socketserver, subprocess, sys, tarfile, tempfile, threading, time, urllib.parse
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BINARY = os.path.abspath(os.environ.get("APTMESH_BIN", "bin/aptmesh"))
SUT = os.environ.get("BR_SUT", "aptmesh")
NOW = int(time.time())


class Broken(Exception):
    """The trial could not be tried."""


class Wrong(Exception):
    """The product did not behave rightly."""


def say(*words):
    print("   ", *words, file=sys.stderr, flush=True)


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def wait_for(what, limit, step=0.1):
    end = time.time() + limit
    while time.time() < end:
        if got := what():
            return got
        time.sleep(step)
    return None


def day(t):
    return formatdate(t, usegmt=True).replace("GMT", "UTC")


# ------------------------------------------------------------------ keys
class Key:
    """A key made by gpg. algo as gpg's: ed25519, rsa1024, dsa2048 …"""

    def __init__(self, lab, name, algo="ed25519", *more):
        self.home = os.path.join(lab.dir, "gpg-" + name)
        os.makedirs(self.home, 0o700)
        self.name = name
        self.gpg("--quick-gen-key", name, algo, "sign", "never")
        self.fpr = re.search(r"^fpr:+([0-9A-F]+):", self.gpg("--with-colons", "-K").decode(), re.M).group(1)
        for algo in more:  # signing subkeys
            self.gpg("--quick-add-key", self.fpr, algo, "sign", "never")
        self.file = os.path.join(lab.dir, name + ".gpg")
        with open(self.file, "wb") as f:
            f.write(self.public)

    def gpg(self, *args, data=b""):
        p = subprocess.run(["gpg", "--homedir", self.home, "--batch", "--quiet", "--no-tty", "--passphrase", "", "--pinentry-mode", "loopback", "--allow-weak-key-signatures", *args],
                           input=data, capture_output=True, timeout=60)
        if p.returncode:
            raise Broken("gpg %s: %s" % (args, p.stderr.decode()[-300:]))
        return p.stdout

    @property
    def public(self):
        return self.gpg("--export")

    def clearsign(self, text):
        return self.gpg("--digest-algo", "SHA512", "--clearsign", data=text)

    def detach(self, text):
        return self.gpg("--digest-algo", "SHA512", "--armor", "--detach-sign", data=text)

    def kill_agent(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], capture_output=True, timeout=20)


# ------------------------------------------------------------------ archive
def deb(name, version="1", size=2000, seed=None, arch="amd64"):
    """A .deb with a payload of noise."""
    def tar(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as t:
            for path, data in files:
                i = tarfile.TarInfo(path)
                i.size = len(data)
                t.addfile(i, io.BytesIO(data))
        return out.getvalue()
    noise = random.Random(seed or name + version).randbytes(size)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: x <x@example.org>\nDescription: {name}\n".encode()
    out = b"!<arch>\n"
    for part, data in (("debian-binary", b"2.0\n"), ("control.tar.gz", tar([("./control", control)])), ("data.tar.gz", tar([("./usr/share/" + name, noise)]))):
        out += f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) & 1)
    return out


def sha(data):
    return hashlib.sha256(data).hexdigest()


def stanza(name, version, path, data, arch="amd64", extra=""):
    return (f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: x <x@example.org>\nFilename: {path}\nSize: {len(data)}\n"
            f"SHA256: {sha(data)}\nDescription: {name}\n{extra}\n")


def release(members, date=None, fields="", suite="noble", sums=("SHA256",), arch="amd64", comp="main"):
    """The text of a Release; members: path -> bytes. date: seconds, a text for the whole line, or None."""
    out = f"Origin: Lab\nSuite: {suite}\nCodename: {suite}\nArchitectures: {arch}\nComponents: {comp}\n"
    out += date + "\n" if isinstance(date, str) else f"Date: {day(date)}\n" if date else ""
    out += fields
    for s in sums:
        out += s + ":\n"
        for path, data in members.items():
            out += f" {hashlib.new(s.replace('Sum', ''), data).hexdigest()} {len(data)} {path}\n"
    return out.encode()


def simple(key, packages, date, suite="noble", fields="", forms=(".gz", ".xz"), more=None, text=None, base="", signed="InRelease", release_date=None):
    """A whole small archive: path -> bytes. packages: [(name, version, bytes)]. text changes the Release."""
    files, index = {}, ""
    for name, version, data in packages:
        path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
        files[base + path] = data
        index += stanza(name, version, path, data)
    members = {}
    pack = {"": bytes, ".gz": lambda b: gzip.compress(b, mtime=0), ".xz": lzma.compress, ".bz2": bz2.compress}
    for ext in forms:
        members["main/binary-amd64/Packages" + ext] = pack[ext](index.encode())
    if "" not in forms:
        members["main/binary-amd64/Packages"] = index.encode()
    members.update(more or {})
    listed_only = {"main/binary-amd64/Packages"} - {"main/binary-amd64/Packages" + f for f in forms}
    for path, data in (more or {}).items():  # apt wants the plain name listed, too
        if path.endswith(".gz") and path[:-3] not in members:
            members[path[:-3]] = gzip.decompress(data)
            listed_only.add(path[:-3])
    body = release(members, release_date if release_date is not None else date, fields, suite)
    if text:
        body = text(body)
    dists = f"{base}dists/{suite}/"
    for path, data in members.items():
        if path not in listed_only:
            files[dists + path] = data
    if "InRelease" in signed:
        files[dists + "InRelease"] = key.clearsign(body)
    if "Release.gpg" in signed:
        files[dists + "Release"] = body
        files[dists + "Release.gpg"] = key.detach(body)
    return files


# ------------------------------------------------------------------ server
class Up:
    """An HTTP server on loopback. files: path -> bytes or (bytes, mtime). hook(req, path) may answer by itself."""

    def __init__(self, lab, files=None, mtime=None, port=0, host="127.0.0.1"):
        self.files, self.mtime, self.host = dict(files or {}), mtime or NOW - 3600, host
        self.etag, self.lastmod, self.since_rule = True, True, False  # since_rule: 304 if mtime <= If-Modified-Since
        self.types, self.hook, self.rate, self.log, self.lock = {}, None, 0, [], threading.Lock()
        self.port, self.httpd, self.conns = port or free_port(host), None, set()
        lab.on_end(self.stop)
        self.start()

    @property
    def url(self):
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def start(self):
        up = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                up.conns.add(self.connection)

            def finish(self):
                up.conns.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def log_message(self, *a):
                pass

            def reply(self, status, body=b"", head=None, path=""):
                self.send_response(status)
                for k, v in (head or {}).items():
                    self.send_header(k, v)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                entry = {"at": time.time(), "method": self.command, "path": path or self.path, "status": status, "sent": 0, "head": dict(self.headers), "target": self.path}
                with up.lock:
                    up.log.append(entry)
                if self.command != "HEAD" and status != 304:
                    step = max(up.rate // 50, 1) if up.rate else 1 << 20
                    for at in range(0, len(body), step):
                        self.wfile.write(body[at:at + step])
                        entry["sent"] += len(body[at:at + step])
                        if up.rate:
                            time.sleep(0.02)

            def do_GET(self):
                path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).replace("/./", "/").lstrip("/")
                try:
                    if up.hook and up.hook(self, path):
                        return
                    up.answer(self, path)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
            do_HEAD = do_GET
            do_CONNECT = do_GET

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in up.host else socket.AF_INET
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

            def handle_error(self, *a):
                pass
        self.httpd = Server((self.host, self.port), Handler)
        threading.Thread(target=self.httpd.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.httpd:
            self.httpd.shutdown()
            self.httpd.server_close()
            self.httpd = None
            for c in list(self.conns):
                try:
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def answer(self, h, path):
        if path not in self.files:
            return h.reply(404, b"not here\n", path=path)
        data, mtime = self.files[path] if isinstance(self.files[path], tuple) else (self.files[path], self.mtime)
        head, tag = {}, '"' + sha(data)[:16] + '"'
        if self.etag:
            head["ETag"] = tag
        if self.lastmod:
            head["Last-Modified"] = formatdate(mtime, usegmt=True)
        for end, kind in self.types.items():
            if path.endswith(end):
                head["Content-Type"] = kind
        inm, ims = h.headers.get("If-None-Match"), h.headers.get("If-Modified-Since")
        if self.etag and inm:
            if inm == tag:
                return h.reply(304, head=head, path=path)
        elif self.lastmod and ims:
            asked = int(parsedate_to_datetime(ims).timestamp())
            if mtime == asked or self.since_rule and mtime <= asked:
                return h.reply(304, head=head, path=path)
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", h.headers.get("Range", ""))
        valid = h.headers.get("If-Range") in (None, tag, head.get("Last-Modified"))
        if m and valid and int(m[1]) < len(data):
            first, last = int(m[1]), min(int(m[2] or len(data) - 1), len(data) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return h.reply(206, data[first:last + 1], head, path)
        h.reply(200, data, head, path)

    def asked(self, end=""):
        return [e for e in self.log if e["path"].endswith(end)]


# ------------------------------------------------------------------ the node
class Answer:
    def __init__(self, status, head, body, took, reason="", broken=""):
        self.status, self.head, self.body, self.took, self.reason, self.broken = status, head, body, took, reason, broken

    def __str__(self):
        text = "" if self.status in (200, 206, 304) else " " + self.body[:240].decode("utf-8", "replace").strip()
        return f"{self.status}{' cut: ' + self.broken if self.broken else ''} {len(self.body)} B {self.took:.2f} s [{self.head.get('x-aptmesh', '')}]{text}"


def ask(url, head=None, method="GET", timeout=60, target=None):
    """One request; target replaces the request target (for proxy requests)."""
    u = urllib.parse.urlsplit(url)
    began = time.time()
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
    try:
        c.request(method, target or u.path or "/", headers=head or {})
        r = c.getresponse()
        broken, body = "", b""
        try:
            body = r.read()
        except http.client.IncompleteRead as e:
            body, broken = e.partial, "incomplete"
        except OSError as e:
            broken = str(e) or "cut"
        return Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, body, time.time() - began, r.reason, broken)
    except (OSError, http.client.HTTPException) as e:
        return Answer(0, {}, repr(e).encode(), time.time() - began)
    finally:
        c.close()


class Node:
    """The product, or what stands in its place. archives: name -> settings; config: other sections."""

    def __init__(self, lab, archives=None, config=None, env=None, name="n1", start=True, args=(), prefix=(), listen=None):
        self.lab, self.archives, self.env, self.name, self.proc, self.kept = lab, archives or {}, env or {}, name, None, {}
        self.args, self.prefix = list(args), list(prefix)
        self.dir = tempfile.mkdtemp(prefix=name + "-", dir=lab.dir)
        self.addr = listen or f"127.0.0.1:{free_port()}"
        self.url = "http://" + self.addr
        self.config = {"listen": [self.addr], "admin": f"unix:{self.dir}/a.sock", "data": self.dir + "/data", "cache": {"max_size": "2GiB", "memory": "64MiB", "scrub": 0},
                       "log": {"format": "json", "level": "debug"}, "drain": {"timeout": "2s"}, "prefetch": {"enabled": False}, "archives": self.archives}
        for k, v in (config or {}).items():
            self.config[k] = v
        lab.on_end(self.kill)
        if start:
            self.start()

    @property
    def file(self):
        return self.dir + "/aptmesh.yaml"

    def write(self):
        with open(self.file, "w") as f:
            json.dump({k: v for k, v in self.config.items() if v is not None}, f)

    def start(self, ready=True):
        if SUT != "aptmesh":
            self.fake = Fake(self)
            return
        if self.config.get("archives") is not None:
            self.write()
            args = ["serve", "--config", self.file, *self.args]
        else:
            args = ["serve", *self.args]
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env.update(self.env)
        self.err, self.out = open(self.dir + "/err", "ab"), open(self.dir + "/out", "ab")
        self.proc = subprocess.Popen([*self.prefix, BINARY, *args], env=env, stdout=self.out, stderr=self.err, cwd=self.dir, start_new_session=True)
        if ready and not wait_for(lambda: self.proc.poll() is not None or ask(self.url + "/", timeout=2).status, 25):
            raise Broken("the node did not come up: " + self.said()[-400:])
        if ready and self.proc.poll() is not None:
            raise Broken("aptmesh serve ended: " + self.said()[-600:])

    def said(self):
        with open(self.dir + "/err", errors="replace") as f:
            return f.read()

    def access(self):
        with open(self.dir + "/out", errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM):
        if SUT != "aptmesh":
            self.fake.stop()
        elif self.proc and self.proc.poll() is None:
            self.proc.send_signal(sig)
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait(5)

    def kill(self):
        if SUT != "aptmesh":
            if hasattr(self, "fake"):
                self.fake.stop()
        elif self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(5)

    def get(self, path, **kw):
        return ask(self.url + path, **kw)

    def run(self, *args, timeout=60):
        """Another command of the binary: (exit code, output)."""
        if SUT != "aptmesh":
            return 0, ""
        p = subprocess.run([*self.prefix, BINARY, *args, "--config", self.file], capture_output=True, timeout=timeout)
        return p.returncode, (p.stdout + p.stderr).decode().strip()

    def refresh(self, suite):
        return self.run("refresh", suite)

    def status(self):
        c = Unix(self.dir + "/a.sock")
        try:
            c.request("GET", "/v1/status")
            return json.loads(c.getresponse().read())
        finally:
            c.close()

    def metric(self, name):
        """The sum of a metric's values."""
        if SUT != "aptmesh":
            return 0
        c = Unix(self.dir + "/a.sock")
        try:
            c.request("GET", "/metrics")
            text = c.getresponse().read().decode()
        finally:
            c.close()
        return sum(float(l.rsplit(" ", 1)[1]) for l in text.splitlines() if re.match(re.escape(name) + r"[{ ]", l))


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.at = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.at)


class Fake:
    """A forwarder without a cache (SUT "forward"), or a door that is shut ("refuse")."""

    def __init__(self, node):
        fake = self
        ups = {}
        for name, a in node.archives.items():
            u = a.get("upstream") or (a["upstreams"][0] if isinstance(a["upstreams"][0], str) else a["upstreams"][0]["url"])
            ups[name] = u
        alias = {al: n for n, a in node.archives.items() for al in a.get("aliases", [])}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def do_GET(self):
                if SUT == "refuse":
                    return self.done(502, {}, b"no\n")
                target = self.path
                if target == "/":
                    return self.done(406, {}, b"a cache\n", "Usage Information")
                for al, n in alias.items():
                    if target.startswith(al):
                        target = ups[n] + target[len(al):]
                if not target.startswith("http"):
                    n = next((n for n in sorted(ups, key=len, reverse=True) if target.startswith("/" + n + "/")), None)
                    if not n:
                        return self.done(404, {}, b"no such archive\n")
                    target = ups[n] + target[len(n) + 1:]
                u = urllib.parse.urlsplit(target)
                for _ in range(6):
                    a = ask(f"{u.scheme}://{u.netloc}", {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "proxy-connection")}, self.command, 60, (u.path or "/") + ("?" + u.query if u.query else ""))
                    if a.status not in (301, 302, 307):
                        break
                    u = urllib.parse.urlsplit(urllib.parse.urljoin(u.geturl(), a.head["location"]))
                if a.status == 200 and self.command == "GET":
                    node.kept[self.path] = a
                elif not a.status:
                    a = node.kept.get(self.path, a)
                self.done(a.status or 503, {k: v for k, v in a.head.items() if k in ("etag", "last-modified", "content-range", "accept-ranges")}, a.body)

            def done(self, status, head, body, reason=None):
                self.send_response(status, reason)
                for k, v in head.items():
                    self.send_header(k, v)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD" and status != 304:
                    try:
                        self.wfile.write(body)
                    except OSError:
                        self.close_connection = True
            do_HEAD = do_GET

            def do_CONNECT(self):
                parent = (node.config.get("upstream") or {}).get("proxy") or node.env.get("https_proxy")
                if SUT == "refuse" or self.path not in (node.config.get("connect") or []):
                    return self.done(403, {}, b"no\n")
                host, _, port = (urllib.parse.urlsplit(parent).netloc if parent else self.path).rpartition("@")[2].partition(":")
                with socket.create_connection((host, int(port)), 5) as s:
                    if parent:
                        s.sendall(f"CONNECT {self.path} HTTP/1.1\r\nHost: {self.path}\r\nProxy-Authorization: Basic bHVzZXI6bHBhc3M=\r\n\r\n".encode())
                        head = s.recv(4096)
                        if b" 200" not in head.split(b"\r\n")[0]:
                            return self.done(502, {}, head)
                    self.connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
                    s.settimeout(5)
                    s.sendall(self.connection.recv(4096))
                    self.connection.sendall(s.recv(4096))
                self.close_connection = True
        host, port = node.addr.rsplit(":", 1)

        class Server(ThreadingHTTPServer):
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

            def handle_error(self, *a):
                pass
        self.httpd = Server((host, int(port)), Handler)
        threading.Thread(target=self.httpd.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.httpd:
            self.httpd.shutdown()
            self.httpd.server_close()
            self.httpd = None


# ------------------------------------------------------------------ hosts
class Host:
    """An apt with a root of its own. lines: sources.list; settings: further lines of apt.conf."""

    def __init__(self, lab, lines, *settings):
        self.dir = tempfile.mkdtemp(prefix="host-", dir=lab.dir)
        for d in ("etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "etc/sources.list.d", "state/lists/partial", "cache/archives/partial", "log", "wd"):
            os.makedirs(os.path.join(self.dir, d))
        self.write("etc/sources.list", lines + "\n")
        self.write("status", "")
        self.write("apt.conf", f"""
Dir "{self.dir}"; Dir::Etc "{self.dir}/etc"; Dir::State "{self.dir}/state"; Dir::State::status "{self.dir}/status";
Dir::Cache "{self.dir}/cache"; Dir::Log "{self.dir}/log"; APT::Architecture "amd64"; APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root"; Debug::NoLocking "1"; Acquire::Languages "none"; Acquire::Retries "0"; Acquire::http::Timeout "40";
APT::Get::Assume-Yes "1";
""" + "\n".join(settings))

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def run(self, *cmd, limit=120):
        """(exit code, output, seconds); complaints make the exit code 1 even where apt's is 0."""
        began = time.time()
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env.update(APT_CONFIG=self.dir + "/apt.conf", LC_ALL="C.UTF-8")
        try:
            p = subprocess.run(cmd, cwd=self.dir + "/wd", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
        except subprocess.TimeoutExpired as e:
            return 124, (e.stdout or b"").decode(errors="replace") + "\n(stopped after %d s)" % limit, time.time() - began
        return p.returncode, p.stdout.decode(errors="replace"), time.time() - began

    def update(self):
        """None if apt-get update went through, else its complaint."""
        code, out, took = self.run("apt-get", "update")
        bad = [l for l in out.splitlines() if re.match(r"\s*(E:|Err:)", l)] or [l for l in out.splitlines() if l.startswith("W: Failed")]
        self.said, self.took = out, took
        return None if code == 0 and not bad else f"exit {code}: " + " / ".join(bad)[:300]

    def download(self, name, want=None):
        for f in os.listdir(self.dir + "/wd"):
            if f.startswith(name + "_"):
                os.unlink(self.dir + "/wd/" + f)
        code, out, took = self.run("apt-get", "download", name)
        self.said, self.took = out, took
        if code:
            return f"exit {code}: " + " / ".join(l for l in out.splitlines() if re.match(r"\s*(E:|Err:)", l))[:300]
        got = next((f for f in os.listdir(self.dir + "/wd") if f.startswith(name + "_")), None)
        if not got:
            return "nothing was downloaded"
        with open(self.dir + "/wd/" + got, "rb") as f:
            return None if want is None or f.read() == want else "other bytes"


def cluster(lab, k, up, addrs, start=True, **kw):
    """Nodes n1, n2 … of one cluster, each at an address of its own. kw changes the cluster's section; {} stands for the address."""
    made = lab.dir + "/cluster" + str(len(lab.ends))
    names = ["n%d" % (i + 1) for i in range(len(addrs))]
    p = subprocess.run([BINARY, "cluster", "init", "--name", "br", "--nodes", ",".join(names), "--dir", made], capture_output=True, timeout=30)
    if p.returncode:
        raise Broken("cluster init: " + p.stderr.decode())
    nodes = []
    for name, addr in zip(names, addrs):
        at = f"[{addr}]" if ":" in addr else addr
        section = {"name": "br", "datacenter": "dc-" + name, "gossip_listen": at + ":7946", "peer_listen": at + ":3143", "advertise": addr, "seeds": list(addrs), **{x: f"{made}/{name}/{f}" for x, f in
                   (("gossip_key", "gossip.key"), ("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))}}
        section.update({x: v.replace("{}", addr) if isinstance(v, str) else v for x, v in kw.items()})
        n = Node(lab, {"a": {"upstream": up.url, "signed_by": [k.file], "suites": ["noble"], "check_every": "2s"}}, {"name": name, "cluster": {x: v for x, v in section.items() if v is not None}, "drain": {"timeout": "2s", "handoff": "2s"}},
                 name=name, listen=at + ":3142", start=False)
        nodes.append(n)
    if start:
        for n in nodes:
            n.start(ready=False)
    return nodes


def members(n):
    """name -> state, as one node sees the cluster; {} where it does not answer."""
    try:
        s = n.status()
        return {m.get("name"): m.get("state") for m in (s.get("cluster") or {}).get("members") or []}
    except (OSError, ValueError, http.client.HTTPException):
        return {}


def apart(net="-n"):
    """Runs this trial again in a network of its own, where every port is free."""
    if "BR_APART" not in os.environ:
        os.environ["BR_APART"] = "1"
        os.execvp("unshare", ["unshare", net, sys.executable, os.path.abspath(sys.argv[0])])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Lab:
    def __init__(self, limit):
        self.dir = tempfile.mkdtemp(prefix=os.path.basename(sys.argv[0]).split(".")[0] + "-")
        self.ends, self.keys = [], []
        signal.signal(signal.SIGALRM, self.late)
        signal.alarm(limit)

    def late(self, *_):
        raise Broken("the trial took too long")

    def on_end(self, f):
        self.ends.append(f)

    def key(self, name, *algo):
        k = Key(self, name, *algo)
        self.on_end(k.kill_agent)
        return k

    def close(self):
        signal.alarm(0)
        for f in reversed(self.ends):
            try:
                f()
            except Exception as e:
                say("cleanup:", e)
        if not os.environ.get("BR_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)


def expect(ok, sentence):
    if not ok:
        raise Wrong(sentence)


def main(trial, limit=300):
    lab = Lab(limit)
    try:
        trial(lab)
    except Wrong as e:
        print(f"WRONG: {e}")
        return 1
    except Broken as e:
        print(f"not tried: {e}")
        return 2
    finally:
        lab.close()
    print("right")
    return 0

