"""Measuring in short turns: all servers of a load live side by side, and it goes round them.

A machine that is shared changes its speed by some tens of percent within a second. What two
servers need a few tenths of a second apart is disturbed alike, so the ratio of the two within one
turn holds still where the times do not, and the median of many such ratios tells 2 %. Another
cause is not evened out by more turns: a process may have met a better or a worse place in memory
than the next one of the same program. So each round starts all processes anew.
"""

from __future__ import annotations

import random
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from load import FLOOR, Case, Server, Setting, cpu_seconds, line, load, serving, with_cpu
from report import table, targets
from report.progress import progress
from report.spread import Spread

# the figures of each turn by target, and these of each round; a target is in all turns or in none
Turn = dict[str, dict[str, float]]
Rounds = list[list[Turn]]


class Contestant:
    """A server and its load, which is idle between turns."""

    def __init__(self, setting: Setting, case: Case, target: str, stack: ExitStack) -> None:
        self.server: Server = stack.enter_context(serving(setting, case, target))
        self.load = stack.enter_context(load(setting, case, self.server))
        # closes its standard input, at which it ends
        stack.callback(self.load.communicate)
        if not line(self.load):
            raise self._failure()

    def turn(self) -> dict[str, float]:
        """One slice of load; RuntimeError with the reason when the server or a reply fails."""
        assert self.load.stdin is not None
        before = cpu_seconds(self.server.pid)
        self.load.stdin.write("\n")
        self.load.stdin.flush()
        printed = line(self.load)
        used = cpu_seconds(self.server.pid) - before
        if not printed:
            raise self._failure()
        return with_cpu(printed, used)

    def _failure(self) -> RuntimeError:
        _, errors = self.load.communicate()
        return RuntimeError(errors.strip() or f"exit status {self.load.returncode}")


def measure(
    setting: Setting, case: Case, floor: Case | None, names: Sequence[str], turns: int, seed: int
) -> tuple[list[Turn], dict[str, str]]:
    """One round: the figures of every turn, and the targets that failed with the reasons. A
    target that fails has no figures. The order changes from turn to turn, by chance."""
    order = random.Random(seed)
    failed: dict[str, str] = {}
    found: list[Turn] = []
    with ExitStack() as stack:
        alive: dict[str, Contestant] = {}
        for name in (*names, FLOOR) if floor is not None else names:
            own = floor if name == FLOOR and floor is not None else case
            try:
                alive[name] = Contestant(setting, own, name, stack)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                failed[name] = str(error)
        for number in range(turns):
            progress(f"turn {number + 1} of {turns}: {case.title()}")
            turn: Turn = {}
            for name in order.sample(list(alive), len(alive)):
                try:
                    turn[name] = alive[name].turn()
                except (RuntimeError, OSError) as error:
                    failed[name] = str(error)
                    del alive[name]
            found.append(turn)
    return [{name: turn[name] for name in alive} for turn in found], failed


def ratios(rounds: Rounds, name: str, base: str) -> Spread | None:
    """CPU of `name` divided by that of `base` in the same turn: the median over each round's
    turns, and of these the median, least and greatest over the rounds."""
    medians = []
    for turns in rounds:
        both = [turn for turn in turns if name in turn and base in turn]
        if both:
            medians.append(
                statistics.median(turn[name]["cpu_us"] / turn[base]["cpu_us"] for turn in both)
            )
    return Spread.of(medians) if medians else None


def best_peer(rounds: Rounds, names: Sequence[str]) -> str | None:
    """The peer with the least median of CPU over all turns."""
    medians = {}
    for name in names:
        samples = [turn[name]["cpu_us"] for turns in rounds for turn in turns if name in turn]
        if samples and name in targets.PEERS:
            medians[name] = statistics.median(samples)
    return min(medians, key=lambda name: medians[name]) if medians else None


def report(samples: Mapping[Case, Rounds], names: Sequence[str], before: str) -> str:
    """A table of ratios: to the floor, to the best peer, and to the earlier build of the same
    target, whose name ends in `before`."""
    rows = []
    for case, rounds in samples.items():
        peer = best_peer(rounds, names)
        for name in names:
            bases = (FLOOR, peer, name + before)
            found = [ratios(rounds, name, base) if base else None for base in bases]
            cells = [_three(spread) for spread in found]
            cpu = [turn[name]["cpu_us"] for turns in rounds for turn in turns if name in turn]
            if cpu:
                rows.append([case.title(), name, f"{statistics.median(cpu):.2f}", *cells])
                rows[-1][4] += f" {peer}" if peer and found[1] is not None else ""
    return table.markdown(["", "", "CPU µs/request", "/ floor", "/ best peer", "/ before"], rows)


def _three(spread: Spread | None) -> str:
    """A ratio with three decimals: what the turns can tell apart."""
    if spread is None:
        return "–"
    if spread.rounds == 1:
        return f"{spread.median:.3f}"
    return f"{spread.median:.3f} ({spread.low:.3f}–{spread.high:.3f})"
