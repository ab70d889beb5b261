"""Echo over TCP (or Unix sockets, or TLS) and UDP on every loop that is there, under a load that
is not Python, next to a bare epoll echo server in Rust as the floor.

Each measurement has a server process of its own; the targets take turns in every round. With
`--turns` the servers of a load live side by side in a round and get it in short slices, which tells
differences of 2 % on a noisy machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import turns
from load import (
    BEFORE,
    DATAGRAM_FLOOR,
    DATAGRAMS,
    FLOOR,
    LARGEST_DATAGRAM,
    Case,
    Setting,
    build,
    certificates,
    measure,
)
from report import interpreter, machine, output, picture, processors, rounds, table, targets
from report.spread import Spread, best, number

SERVERS = ("protocol", "buffered", "streams", "lines", "sock", "datagram")
# the kinds of server that also have TLS, and a connection for each request
TRANSPORTS = ("protocol", "buffered", "streams", "lines")
FIGURES = ("requests_per_second", "p50_us", "p99_us", "cpu_us")

# figures of every round by case and target
Samples = dict[Case, dict[str, list[dict[str, float]]]]
# one figure's spread by a row's title and target
Rows = Mapping[str, Mapping[str, Spread]]


def collect(
    setting: Setting, names: Sequence[str], options: argparse.Namespace
) -> tuple[Samples, dict[str, str]]:
    """All samples and the failures; Ctrl-C ends it early with the samples so far."""
    # load by load, so that the floor is measured close in time to the servers compared with it
    order = []
    for measured in cases(options):
        if has_floor(options):
            order += [(floor, FLOOR) for floor in dict.fromkeys(map(floor_of, measured))]
        order += [(case, name) for case in measured for name in names]
    return rounds.collect(
        options.rounds, order, Case.title, lambda case, name: measure(setting, case, name)
    )


def collect_turns(
    setting: Setting, names: Sequence[str], options: argparse.Namespace
) -> tuple[dict[Case, turns.Rounds], dict[str, str]]:
    """The same with `--turns`."""
    samples: dict[Case, turns.Rounds] = {}
    failed: dict[str, str] = {}
    try:
        for number in range(options.rounds):
            for case in [case for measured in cases(options) for case in measured]:
                floor = floor_of(case) if has_floor(options) else None
                found, missing = turns.measure(setting, case, floor, names, options.turns, number)
                samples.setdefault(case, []).append(found)
                failed |= {f"{case.title()} on {name}": why for name, why in missing.items()}
    except KeyboardInterrupt:
        failed["the run"] = "ended early by Ctrl-C"
    return samples, failed


def cases(options: argparse.Namespace) -> list[list[Case]]:
    """The kinds of server for each load."""
    loads = [(connections, size) for connections in options.connections for size in options.sizes]
    return [
        [
            Case(server, connections, size)
            for server in options.servers
            if server not in DATAGRAMS or size <= LARGEST_DATAGRAM
        ]
        for connections, size in loads
    ]


def has_floor(options: argparse.Namespace) -> bool:
    """Whether the bare server can stand this load."""
    return not (options.tls or options.reconnect)


def of_turns(samples: Mapping[Case, turns.Rounds]) -> Samples:
    """The figures of all turns, as those of rounds, with the floor as a case of its own."""
    found: Samples = {}
    for case, them in samples.items():
        for turn in (turn for one in them for turn in one):
            for name, figures in turn.items():
                own = floor_of(case) if name == FLOOR else case
                found.setdefault(own, {}).setdefault(name, []).append(figures)
    return found


def floor_of(case: Case) -> Case:
    """The same load on the bare server of the same sockets."""
    server = DATAGRAM_FLOOR if case.server in DATAGRAMS else FLOOR
    return Case(server, case.connections, case.size)


def rows(samples: Samples, figure: str) -> dict[str, dict[str, Spread]]:
    """One figure's spreads by row and target, each row with the floor of its load."""
    spreads = {
        case: {name: Spread.of([one[figure] for one in them]) for name, them in named.items()}
        for case, named in samples.items()
    }
    return {
        case.title(): {**named, **spreads.get(floor_of(case), {})}
        for case, named in spreads.items()
        if case != floor_of(case) and named
    }


def complete(by_figure: Mapping[str, Rows]) -> str:
    """All figures, one line per row and target."""
    lines = []
    for row, cpu in by_figure["cpu_us"].items():
        peer = best(cpu, targets.PEERS)
        for name in cpu:
            line = [row, name, *(by_figure[figure][row][name].text() for figure in FIGURES)]
            for base in (peer, FLOOR):
                other = cpu.get(base) if base is not None else None
                line.append(number(cpu[name].median / other.median) if other else "–")
            lines.append(line)
    header = ["", "", "requests/s", "p50 µs", "p99 µs", "CPU µs/request"]
    return table.markdown([*header, "CPU / best peer's", "CPU / floor's"], lines)


def numbers(text: str) -> list[int]:
    """The comma-separated positive whole numbers of an option."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="interpreter of the servers (default: the benches' venv)")
    parser.add_argument(
        "--targets", default=",".join(targets.ALL), help="names, separated by commas"
    )
    parser.add_argument("--servers", help="kinds of server, by commas (default: all that can)")
    parser.add_argument("--connections", type=numbers, default=[1, 50], help="counts, by commas")
    parser.add_argument(
        "--sizes",
        type=numbers,
        help="bytes, by commas (default: 64,1024,102400; with --tls "
        "1024,102400; with --reconnect 64)",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        help="length of one measurement (default: 1.0; with --turns 0.15)",
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=0,
        help="in each round keep all servers of a load alive and measure them this number of "
        "times in turn, in short slices",
    )
    parser.add_argument(
        "--before",
        metavar="PYTHON",
        help="with --turns: an interpreter with an earlier build of aioxide to compare with",
    )
    parser.add_argument("--warmup", type=float, default=0.2, help="seconds of load before it")
    parser.add_argument("--unix", action="store_true", help="over Unix sockets instead of TCP")
    parser.add_argument("--tls", action="store_true", help="with TLS 1.3")
    parser.add_argument(
        "--reconnect",
        action="store_true",
        help="a connection for every request: with --tls, handshakes are measured",
    )
    processors.add_option(parser)
    parser.add_argument("--output", type=Path, default=output.FOLDER, help="folder for the results")
    options = parser.parse_args()
    able = TRANSPORTS if options.tls or options.reconnect else SERVERS
    options.servers = options.servers.split(",") if options.servers else list(able)
    if options.sizes is None:
        options.sizes = [1024, 102400] if options.tls else [64, 1024, 102400]
        if options.reconnect:
            options.sizes = [64]
    if unknown := [server for server in options.servers if server not in able]:
        parser.error(f"no server {', '.join(unknown)} here; there are {', '.join(able)}")
    if options.seconds is None:
        options.seconds = 0.15 if options.turns else 1.0
    if options.before and not options.turns:
        parser.error("--before needs --turns")
    if options.turns < 0 or options.rounds < 1 or options.seconds <= 0 or options.warmup <= 0:
        parser.error("--rounds, --turns, --seconds and --warmup must be positive")
    try:
        options.processors = processors.chosen(options.processors)
        return options, targets.parse(options.targets)
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    options, wanted = arguments()
    python = options.python or interpreter.default()
    probed = targets.probe(python, wanted)
    names = list(probed.versions)
    before = []
    if options.before:
        own = targets.probe(options.before, [name for name in names if name in targets.OWN])
        before = [name + BEFORE for name in own.versions]
    over = "Unix sockets" if options.unix else "TCP"
    settings = {
        "rounds": options.rounds,
        **({"turns in each": options.turns} if options.turns else {}),
        **({"before": options.before} if options.before else {}),
        "seconds each": options.seconds,
        "over": f"TLS over {over}" if options.tls else over,
        "connections": "one for each request" if options.reconnect else "kept",
        "processors": options.processors.text(),
    }
    head = machine.head(python, probed, settings)
    with tempfile.TemporaryDirectory() as folder:
        tls = certificates(python, folder) if options.tls else None
        rest = (options.unix, tls, options.reconnect, options.processors)
        binaries = build()
        setting = Setting(
            python, binaries, options.seconds, options.warmup, *rest, before=options.before
        )
        if options.turns:
            in_turns, failed = collect_turns(setting, [*names, *before], options)
            samples = of_turns(in_turns)
        else:
            in_turns = {}
            samples, failed = collect(setting, names, options)

    if failed:
        head["Failed"] = "; ".join(f"{title}: {why}" for title, why in failed.items())
    by_figure = {figure: rows(samples, figure) for figure in FIGURES}
    columns = [*names, FLOOR] if has_floor(options) else names
    cpu, speed = by_figure["cpu_us"], by_figure["requests_per_second"]
    text = (
        "Medians of the rounds (with `--turns`, of all turns) and the least–greatest. Ours "
        "against the best of the peers in the same run, above 1 being better.\n\n"
        "## CPU microseconds of the whole server process per request\n\n"
        f"{table.comparison(cpu, columns)}\n\n"
        "## Requests per second\n\n"
        f"{table.comparison(speed, columns, greatest=True)}\n\n"
        "## Everything\n\n"
        f"{complete(by_figure)}"
    )
    if in_turns:
        text = (
            "## Ratios of CPU within a turn\n\n"
            "The median over the turns of a round; of these the median over the rounds, with the "
            "least and greatest. Below 1 is better.\n\n"
            f"{turns.report(in_turns, names, BEFORE)}\n\n{text}"
        )
    subtitle = f"times better than the best peer, longer is better · {head['Machine']}"
    data = [
        {**asdict(case), "target": name, "rounds": them}
        for case, named in samples.items()
        for name, them in named.items()
    ]
    kinds = [kind for kind in ("unix", "tls", "reconnect") if getattr(options, kind)]
    name = "-".join(["net", *kinds])
    what = "TLS echo" if options.tls else "Echo"
    if options.reconnect:
        what = "TLS handshake and echo" if options.tls else "Connection and echo"
    pictures = {
        f"{name}-cpu": picture.bars(
            f"{what}: server CPU per request", subtitle, output.ratios(cpu), columns
        ),
        f"{name}-requests": picture.bars(
            f"{what}: requests per second", subtitle, output.ratios(speed, greatest=True), columns
        ),
    }
    output.write(options.output, name, head, text, data, pictures)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
