"""The load side: drives a gateway through a scenario and reads what it cost.

A reading is a dictionary: `cpu` (microseconds of the gateway's processes per request), `rate` (requests per second),
`busy` (share of a core that the gateway used), and of open loops `p50` and `p99` (microseconds); or `idle` (MiB) and
`connection` (KiB for each idle connection).
"""

import json
import re
import select
import socket
import ssl
import subprocess
import time

from . import process
from .fixture import GUARDED_PATH, PLAIN_PATH, STRANGER, request
from .process import Failure

CONNECTIONS = 64
IDLE_CONNECTIONS = 1000
# Seconds after which an idle gateway has given back what it does.
SETTLE = 3
# Sessions that the requests of a run take in turn.
SPREAD = 1000
BODY = 1024


class Load:
    """The process that is origin and load, and the tools beside it."""

    def __init__(self, program, fixture, seconds, rate, realtime):
        self.fixture, self.seconds, self.rate, self.realtime = fixture, seconds, rate, realtime
        self.loop = process.spawn([program], fixture.folder, process.LOAD_CORES, realtime,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.origin = int(self.loop.stdout.readline())

    def stop(self):
        process.stop(self.loop)

    # ---------------------------------------------------------------- is the gateway one?
    def check(self, gateway):
        """What a gateway answers wrongly."""
        fields, session = self.fixture.fields, gateway.sessions[0]
        wrong = []
        if "P" in gateway.peer.scenarios:
            status, body = self._ask(gateway.ports["plain"], request(PLAIN_PATH, {}, close=True))
            if status != 200 or len(body) != BODY:
                wrong.append(f"plain call: {status} with {len(body)} bytes")
        cases = [
            ("good call", fields(session), {200}),
            ("no token", {**fields(session), "Authorization": None}, {400, 401}),
            ("forged token", fields(session, self.fixture.forged), {401}),
            ("expired token", fields(session, self.fixture.expired), {401}),
            ("another client-id", fields(session, client=STRANGER), {401, 403}),
            ("no session", fields(None), {400, 401}),
            ("unknown session", fields(self.fixture.unknown_session), {401, 403, 404}),
            ("another client's session", fields(gateway.strangers_session), {401, 403, 404}),
        ]
        for title, shown, right in cases if gateway.peer.is_guarded else []:
            status, _ = self._ask(gateway.ports["guarded"], request(GUARDED_PATH, shown, close=True))
            if status not in right:
                wrong.append(f"{title}: {status}")
        return wrong

    def _ask(self, port, text):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(text)
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head[9:12] or 0), body

    # ---------------------------------------------------------------- measurements
    def measure(self, gateway, scenario):
        """One reading."""
        if scenario.tool == "memory":
            return self._memory(gateway, scenario)
        cpu, begin = self._cpu(gateway), time.monotonic()
        if scenario.tool == "h2load":
            result = self._h2load(gateway)
        else:
            result = self._loop(gateway, scenario)
        cpu, elapsed = self._cpu(gateway) - cpu, time.monotonic() - begin
        good = result["refused"] if scenario.call == "unknown" else result["requests"] - result["refused"]
        bad = result["requests"] - good + result["errors"]
        # A gateway may close a connection that it has used for long; more than that is no measurement.
        if not good or bad > good / 1000:
            raise Failure(f"{bad} of {result['requests']} calls failed")
        reading = {"cpu": cpu / good, "rate": good / result["seconds"], "busy": cpu / 1e6 / elapsed}
        if scenario.fixed_rate:
            if reading["rate"] < 0.98 * self.rate:
                raise Failure(f"only {reading['rate']:.0f} of {self.rate} calls per second were done")
            reading |= {"p50": result["p50"], "p99": result["p99"]}
        return reading

    def _cpu(self, gateway):
        return process.cpu_microseconds(gateway.process.pid) if gateway.process else 0

    def _requests(self, gateway, scenario):
        """The file with the requests of a scenario."""
        path = gateway.folder / f"requests-{scenario.name}"
        if not path.exists():
            step = max(1, len(gateway.sessions) // SPREAD)
            sessions = gateway.sessions[::step][:SPREAD]
            token = "{token}" if scenario.call == "fresh" else self.fixture.tokens[scenario.token]
            if scenario.call == "plain":
                requests = [request(PLAIN_PATH, {}, scenario.close)]
            elif scenario.call == "unknown":
                # Other ids than the gateway has, as many of them.
                unknown = [session[::-1].replace("-", "") for session in sessions]
                unknown = [f"{i[:8]}-{i[8:12]}-4{i[13:16]}-8{i[17:20]}-{i[20:]}" for i in unknown]
                requests = [request(GUARDED_PATH, self.fixture.fields(session, token)) for session in unknown]
            else:
                shown = [self.fixture.fields(session, token) for session in sessions]
                requests = [request(GUARDED_PATH, fields, scenario.close) for fields in shown]
            path.write_bytes(b"\0".join(requests))
        return path

    def _loop(self, gateway, scenario):
        port = gateway.ports["plain" if scenario.call == "plain" else "tls" if scenario.tls else "guarded"]
        words = [f"port={port}", f"connections={CONNECTIONS}", f"seconds={self.seconds}",
                 f"requests={self._requests(gateway, scenario)}"]
        words += ["close=1"] * scenario.close + ["tls=1"] * scenario.tls + [f"rate={self.rate}"] * scenario.fixed_rate
        words += [f"sign={self.fixture.folder / 'sign'}"] * (scenario.call == "fresh")
        self.loop.stdin.write(f"run {' '.join(words)}\n".encode())
        self.loop.stdin.flush()
        if not select.select([self.loop.stdout], [], [], self.seconds + 30)[0]:
            raise Failure("the load did not end")
        line = self.loop.stdout.readline()
        if not line:
            raise SystemExit("the load ended, which it must not; its message is above")
        return json.loads(line)

    def _h2load(self, gateway):
        fields = self.fixture.fields(gateway.sessions[0])
        command = ["h2load", "-t1", "-c8", "-m16", "-D", str(self.seconds)]
        for name, value in fields.items():
            command += ["-H", f"{name.lower()}: {value}"]
        command.append(f"https://127.0.0.1:{gateway.ports['tls']}{GUARDED_PATH}")
        tool = process.spawn(command, self.fixture.folder, process.LOAD_CORES, self.realtime,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            text = tool.communicate(timeout=self.seconds + 30)[0].decode()
        finally:
            process.stop(tool)
        good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
        if not good or not failed:
            raise Failure(f"h2load: {text[-500:]}")
        counts = [int(count) for count in good.groups()]
        return {"requests": sum(counts), "refused": sum(counts[1:]), "errors": int(failed[1]), "seconds": self.seconds}

    def _memory(self, gateway, scenario):
        """Of a gateway that has done nothing else: connections that each did one call and then sleep."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        call = request(GUARDED_PATH, self.fixture.fields(gateway.sessions[0]))

        def connect():
            connection = socket.create_connection(("127.0.0.1", gateway.ports["tls" if scenario.tls else "guarded"]), 10)
            if scenario.tls:
                connection = context.wrap_socket(connection)
            connection.sendall(call)
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < BODY:
                part = connection.recv(1 << 16)
                answer += part
                if not part or answer[9:12] not in (b"", b"200"):
                    raise Failure(f"answered with {answer[:100]!r}")
            return connection

        def settled():
            time.sleep(SETTLE)
            return process.memory_kib(gateway.process.pid)

        connections = [connect()]
        try:
            before = settled()
            connections += [connect() for _ in range(IDLE_CONNECTIONS)]
            after = settled()
        finally:
            for connection in connections:
                connection.close()
        return {"idle": before / 1024, "connection": (after - before) / IDLE_CONNECTIONS}
