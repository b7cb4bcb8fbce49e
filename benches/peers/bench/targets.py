"""What sessiongate is to reach, as ratios within one round."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """`top` over `bottom`, each a scenario and a peer, is to be at most `limit`, and better `aim`. Without `bottom` the
    reading itself is judged."""

    what: str
    top: tuple
    bottom: tuple | None
    limit: float
    aim: float
    of: str = "cpu"


OURS = "sessiongate"


def versus(scenario, peer, limit, aim, of="cpu", bottom=None):
    what = f"{scenario}{'' if of == 'cpu' else f' {of}'} vs {peer}{'' if not bottom else f' ({bottom})'}"
    return Target(what, (scenario, OURS), (bottom or scenario, peer), limit, aim, of)


TARGETS = [
    versus("G", "haproxy", 0.58, 0.44),
    versus("G", "haproxy-awslc", 0.60, 0.44),
    versus("G", "pingora", 0.58, 0.45),
    versus("G", "envoy", 0.22, 0.17),
    versus("G", "nginx-lua-cache", 0.97, 0.75),
    versus("G", "nginx", 1.25, 1.00, bottom="P"),
    versus("G", "haproxy-l4", 1.50, 1.20, bottom="P"),
    versus("R", "haproxy", 0.45, 0.37),
    versus("R", "nginx-lua-cache", 0.85, 0.70),
    versus("tlsG", "haproxy", 0.65, 0.50),
    versus("hsG", "haproxy", 0.60, 0.50),
    versus("hsG", "haproxy-awslc", 1.00, 0.85),
    versus("h2G", "haproxy", 0.85, 0.65),
    versus("closeG", "haproxy", 0.90, 0.80),
    versus("latG", "haproxy", 1.00, 0.85, of="p50"),
    versus("latG", "haproxy", 1.00, 0.85, of="p99"),
    Target("RS256 token vs HS256", ("rs256", OURS), ("G", OURS), 1.05, 1.00),
    Target("ES256 token vs HS256", ("es256", OURS), ("G", OURS), 1.05, 1.00),
    Target("token never seen vs seen", ("fresh", OURS), ("G", OURS), 1.30, 1.15),
    Target("access log on vs off", ("G", "sessiongate-log"), ("G", OURS), 1.10, 1.05),
    Target("2 workers vs 1, same rate", ("rateG", "sessiongate-w2"), ("rateG", "sessiongate-w1"), 1.10, 1.00),
    Target("many sessions and routes vs few", ("G", "sessiongate-large"), ("G", "sessiongate-small"), 1.15, 1.05),
    Target("KiB per idle connection", ("memory", OURS), None, 8, 2, of="connection"),
    Target("KiB per idle TLS connection", ("memoryTLS", OURS), None, 16, 10, of="connection"),
]
