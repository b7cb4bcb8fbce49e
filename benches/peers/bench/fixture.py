"""What all gateways are given: keys, tokens, a certificate, and a table of sessions."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
import uuid

CLIENT, STRANGER = "mobile-app-7", "web-app-3"
GUARDED_PATH, PLAIN_PATH = "/api/orders/42?expand=items", "/plain/orders/42?expand=items"
HS256_HEADER = '{"alg":"HS256","typ":"JWT"}'


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def request(path, fields, close=False):
    """A request as bytes."""
    lines = [f"GET {path} HTTP/1.1", "Host: gateway.local", "User-Agent: peers/1", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Fixture:
    """Made afresh in the folder of a run."""

    def __init__(self, folder, sessions):
        self.folder = folder
        self.secret = hashlib.sha256(os.urandom(32)).hexdigest()
        now = int(time.time())
        self.claims = {
            "iss": "bench", "sub": "user-20417", "client_id": CLIENT, "iat": now, "exp": now + 10 * 86400,
            "scope": "orders:read orders:write profile:read payments:read", "jti": uuid.uuid4().hex,
        }
        (folder / "secret.key").write_text(self.secret)
        self._make_keys()
        self.token = self.hs256(self.claims)
        self.tokens = {"hs256": self.token, "rs256": self._signed("RS256"), "es256": self._signed("ES256")}
        self.forged = self.hs256(self.claims, self.secret[::-1])
        self.expired = self.hs256({**self.claims, "exp": now - 3600})
        self.strangers_token = self.hs256({**self.claims, "client_id": STRANGER})
        # For tokens that the load signs itself.
        claims = json.dumps({**self.claims, "jti": "{id}"}, separators=(",", ":"))
        (folder / "sign").write_text(f"{self.secret}\n{HS256_HEADER}\n{claims}\n")

        self.sessions = [str(uuid.uuid4()) for _ in range(sessions)]
        self.strangers_session, self.unknown_session = str(uuid.uuid4()), str(uuid.uuid4())
        rows = [f"{session} {CLIENT}\n" for session in self.sessions] + [f"{self.strangers_session} {STRANGER}\n"]
        (folder / "sessions.txt").write_text("".join(rows))

    def _openssl(self, *words, stdin=None):
        try:
            done = subprocess.run(["openssl", *words], cwd=self.folder, input=stdin, capture_output=True, check=True)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(error.stderr.decode()) from error
        return done.stdout

    def _make_keys(self):
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                      "-subj", "/CN=gateway.local", "-addext", "subjectAltName=DNS:gateway.local", "-keyout", "key.pem",
                      "-out", "certificate.pem")
        self._openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rs256.pem")
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "es256.pem")
        for name in ("rs256", "es256"):
            self._openssl("pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}-public.pem")
        both = (self.folder / "certificate.pem").read_text() + (self.folder / "key.pem").read_text()
        (self.folder / "chain-and-key.pem").write_text(both)
        # nginx gives up its rights before it reads some of these; they are of use in this run only.
        for path in self.folder.iterdir():
            path.chmod(0o644)

    def hs256(self, claims, secret=None):
        text = f"{b64(HS256_HEADER.encode())}.{b64(json.dumps(claims, separators=(',', ':')).encode())}"
        signature = hmac.new((secret or self.secret).encode(), text.encode(), hashlib.sha256).digest()
        return f"{text}.{b64(signature)}"

    def _signed(self, algorithm):
        header = json.dumps({"alg": algorithm, "typ": "JWT"}, separators=(",", ":"))
        text = f"{b64(header.encode())}.{b64(json.dumps(self.claims, separators=(',', ':')).encode())}"
        raw = self._openssl("dgst", "-sha256", "-sign", f"{algorithm.lower()}.pem", stdin=text.encode())
        if algorithm == "ES256":
            # Two DER integers to two numbers of 32 bytes (RFC 7518 section 3.4).
            r_end = 4 + raw[3]
            r, s = raw[4:r_end], raw[r_end + 2:]
            raw = b"".join(int.from_bytes(number, "big").to_bytes(32, "big") for number in (r, s))
        return f"{text}.{b64(raw)}"

    def fields(self, session, token=None, client=CLIENT):
        """What a guarded call shows."""
        return {"Authorization": f"Bearer {token or self.token}", "client-id": client, "session-id": session}
