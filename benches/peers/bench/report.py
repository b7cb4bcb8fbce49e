"""Readings to Markdown and SVG. Times are compared within a round only: a ratio is one of two readings that were taken
minutes apart, and what is shown is the median of the rounds' ratios, with the least and the greatest."""

import json
import statistics
from html import escape

from .scenarios import SCENARIOS
from .targets import OURS, TARGETS


class Ratios:
    """A ratio of each round."""

    def __init__(self, top, bottom, of):
        rounds = sorted(top.keys() & bottom.keys())
        self.values = [top[number][of] / bottom[number][of] for number in rounds if bottom[number][of]]

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def range(self):
        return f"{min(self.values):.2f}–{max(self.values):.2f}"


class Readings:
    """Scenario and peer to round to reading."""

    def __init__(self):
        self.all = {}

    def add(self, scenario, peer, number, reading):
        self.all.setdefault((scenario, peer), {})[number] = reading

    def of(self, scenario, peer):
        return self.all.get((scenario, peer), {})

    def peers(self, scenario):
        return [peer for name, peer in self.all if name == scenario]

    def median(self, scenario, peer, of):
        return statistics.median(reading[of] for reading in self.of(scenario, peer).values())

    def as_json(self):
        return [{"scenario": scenario, "peer": peer, "round": number, **reading}
                for (scenario, peer), rounds in self.all.items() for number, reading in rounds.items()]


def targets(readings):
    """The table of the targets that were measured."""
    lines = ["| target | at most | aim | measured | range | |", "|---|---:|---:|---:|---:|:---:|"]
    for target in TARGETS:
        top = readings.of(*target.top)
        if target.bottom is None:
            values = [reading[target.of] for reading in top.values()]
        else:
            values = Ratios(top, readings.of(*target.bottom), target.of).values
        if not values:
            continue
        median = statistics.median(values)
        verdict = "✓✓" if median <= target.aim else "✓" if median <= target.limit else "✗"
        lines.append(f"| {target.what} | {target.limit:.2f} | {target.aim:.2f} | {median:.2f} | "
                     f"{min(values):.2f}–{max(values):.2f} | {verdict} |")
    if len(lines) == 2:
        return "None was measured."
    return "\n".join([*lines, "", "✓✓ the aim is reached, ✓ the limit is kept, ✗ it is not."])


def table(readings, name):
    """One scenario, each peer against this gateway."""
    scenario, peers = SCENARIOS[name], readings.peers(name)
    if scenario.tool == "memory":
        lines = ["| gateway | idle, MiB | per connection, KiB |", "|---|---:|---:|"]
        lines += [f"| {peer} | {readings.median(name, peer, 'idle'):.1f} | "
                  f"{readings.median(name, peer, 'connection'):.1f} |" for peer in peers]
        return "\n".join(lines)
    base = OURS if OURS in peers else peers[-1]
    against = scenario.against or name
    yardstick = base if against == name else f"{base} in {against}"
    measures = ["cpu"] + (["p50", "p99"] if scenario.fixed_rate else [])
    titles = {"cpu": "CPU", "p50": "p50", "p99": "p99"}
    heads = [f"{titles[of]} ÷ {yardstick} | range | µs" for of in measures]
    lines = [f"| gateway | {' | '.join(heads)} | core busy |", "|---|" + "---:|" * (3 * len(measures) + 1)]
    for peer in peers:
        cells = []
        for of in measures:
            ratios = Ratios(readings.of(name, peer), readings.of(against, base), of)
            if ratios.values and not (of == "cpu" and peer == "direct"):
                cells += [f"{ratios.median:.2f}", ratios.range, f"{readings.median(name, peer, of):.1f}"]
            else:
                cells += ["–", "–", "–"]
        lines.append(f"| {peer} | {' | '.join(cells)} | {readings.median(name, peer, 'busy') * 100:.0f}% |")
    return "\n".join(lines)


def chart(readings, name):
    """One scenario as bars: the median ratio of each peer to this gateway, and its range. None if there is no ratio."""
    scenario, peers = SCENARIOS[name], readings.peers(name)
    of = "connection" if scenario.tool == "memory" else "p99" if name == "latG" else "cpu"
    bars = []
    for peer in peers:
        ratios = Ratios(readings.of(name, peer), readings.of(name, OURS), of).values
        if ratios and not (of == "cpu" and peer == "direct"):
            bars.append((peer, statistics.median(ratios), min(ratios), max(ratios)))
    if len(bars) < 2:
        return None
    names = {"connection": "memory per idle connection", "p99": "99th percentile of latency", "cpu": "CPU time per request"}
    what = names[of]
    left, width, row, top = 150, 470, 26, 56
    scale = width / max(most for *_, most in bars)
    height = top + row * len(bars) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {height}" font-family="sans-serif" font-size="13">',
        "<style>text{fill:#222}.bar{fill:#9aa7b5}.ours{fill:#c2571a}.range{stroke:#222}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.bar{fill:#66727f}.range{stroke:#ddd}}</style>",
        f'<text x="8" y="20" font-weight="bold">{escape(f"{name}: {scenario.title}")}</text>',
        f'<text x="8" y="40">{what}, {OURS} = 1; bars: median of the rounds, lines: least and greatest</text>',
    ]
    for index, (peer, median, least, most) in enumerate(bars):
        y = top + row * index
        middle, start, kind = y + 9, left + least * scale, "ours" if peer == OURS else "bar"
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{peer}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{median * scale:.1f}" height="18"/>',
            f'<line class="range" x1="{start:.1f}" x2="{left + most * scale:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<text x="{left + max(median, most) * scale + 6:.1f}" y="{y + 14}">{median:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def write(folder, readings, environment, failures):
    """RESULTS.md, results/*.svg and results/readings.json in a folder. Gives the text."""
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Results", "",
        "Written by [`peers/run`](peers/README.md), which says what the scenarios are and how they are measured. Each number",
        "but memory is a ratio of two readings of one round, on one machine: the median of the rounds and their range. The",
        "microseconds beside them are there to see how large things are; they do not compare with those of another run.", "",
        *[f"- {line}" for line in environment], "", "## Targets", "",
        "CPU time per request of this gateway over that of another, unless it says otherwise.", "", targets(readings),
    ]
    if failures:
        lines += ["", "## Not measured", "", *[f"- {failure}" for failure in failures]]
    lines += ["", "## Scenarios"]
    for name in SCENARIOS:
        if not readings.peers(name):
            continue
        lines += ["", f"### {name}: {SCENARIOS[name].title}", "", table(readings, name)]
        if drawing := chart(readings, name):
            (results / f"{name}.svg").write_text(drawing)
            lines += ["", f"![{SCENARIOS[name].title}](results/{name}.svg)"]
    lines += ["", "All readings: [results/readings.json](results/readings.json)."]
    (folder / "RESULTS.md").write_text("\n".join(lines) + "\n")
    rows = ",\n".join(json.dumps(row) for row in readings.as_json())
    (results / "readings.json").write_text(f"[\n{rows}\n]\n")
    return "\n".join(lines)
