"""What is measured, and by which load."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A kind of call. `tool` is `loop` (our load), `h2load` or `memory`."""

    name: str
    title: str
    tool: str = "loop"
    call: str = "guarded"  # plain, guarded, unknown (a session nobody opened), fresh (a token nobody has seen)
    token: str = "hs256"
    tls: bool = False
    close: bool = False
    fixed_rate: bool = False
    # The scenario that its readings are compared with, if not itself.
    against: str = ""


SCENARIOS = {scenario.name: scenario for scenario in [
    Scenario("P", "plain forward, keep-alive", call="plain"),
    Scenario("G", "guarded forward, keep-alive"),
    Scenario("R", "refusal of an unknown session, keep-alive", call="unknown"),
    Scenario("closeG", "guarded forward, a connection per request", close=True),
    Scenario("tlsG", "guarded forward, TLS 1.3 keep-alive", tls=True),
    Scenario("hsG", "guarded forward, a full TLS 1.3 handshake per request", tls=True, close=True),
    Scenario("h2G", "guarded forward, HTTP/2 over TLS, 8 connections of 16 streams", tool="h2load", tls=True),
    Scenario("latG", "guarded forward at a fixed rate: latency", fixed_rate=True),
    Scenario("rs256", "as G, tokens signed with RS256", token="rs256", against="G"),
    Scenario("es256", "as G, tokens signed with ES256", token="es256", against="G"),
    Scenario("fresh", "as G, with a token never seen before in each call", call="fresh", against="G"),
    Scenario("rateG", "as latG, gateway not bound to a core", fixed_rate=True),
    Scenario("memory", "memory of idle keep-alive connections", tool="memory"),
    Scenario("memoryTLS", "memory of idle TLS connections", tool="memory", tls=True),
]}
