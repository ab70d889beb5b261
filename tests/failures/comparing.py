"""Runs failing.py on asyncio and on aioxide, and says where aioxide's journals are not asyncio's.

Both make the same calls in different numbers: asyncio may register a socket twice where aioxide
does it once. So a failure of the nth call is compared with all that asyncio does when any of these
calls fails with this error: aioxide's journal must be one of those. It may also be the journal that
there is without a failure, where the call was interrupted only, or asyncio does not make it. What
asyncio leaves behind, or a loop that it has ended, is not asked of aioxide.

A busy machine can make a case look stuck. What differs is played once more, with more patience.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import expected
import injecting

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ("asyncio", "aioxide")
# All cases of a scenario, each of which ends itself after some seconds.
HUNG_AFTER = 3_600
PATIENT = "150"
# Where aioxide differs from asyncio's first failing calls, this many calls of a class fail on asyncio.
MANY = 40


def play(module, scenario, library, which="some", chosen=(), patience=None):
    """What failing.py prints for a scenario: the journal without failure, all others by case, and how
    many calls there were without failure."""
    command = [sys.executable, os.path.join(HERE, "failing.py"), module, scenario, which]
    environment = injecting.environment(library, [path for path in sys.path if path])
    if patience is not None:
        environment["FAILURES_PATIENCE"] = patience
    plain, calls, journals, done = None, {}, {}, []
    while True:
        ended = subprocess.run(
            command,
            env=environment,
            input=json.dumps([list(chosen), done]),
            capture_output=True,
            text=True,
            timeout=HUNG_AFTER,
        )
        begun = None
        for line in ended.stdout.splitlines():
            record = json.loads(line)
            if "begins" in record:
                begun = tuple(record["begins"])
                done.append(begun)
            elif record["case"] is None:
                plain = record["sides"]
                calls = record["calls"]
            else:
                begun = None
                if record["fired"]:
                    journals[tuple(record["case"])] = record["sides"]
        if ended.returncode == 0:
            return plain, journals, calls
        if begun is None:
            raise RuntimeError(f"{scenario} on {module} fails by itself: {ended.stderr}")
        journals[begun] = {"process": [["ended", ended.returncode, ended.stderr[-500:]]]}


def _alike(case):
    """What a case is compared by: not by which of the calls failed."""
    failing, _, error, times = case
    return failing, error, times > 1


def differences(scenario, asyncio, aioxide):
    """Each case whose journal is not asyncio's: the case, its journal, and those of asyncio."""
    (plain, journals, _), (our_plain, our_journals, _) = asyncio, aioxide
    may = {}
    for case, journal in journals.items():
        better = [expected.compared(scenario, one) for one in expected.better(scenario, journal)]
        may.setdefault(_alike(case), []).extend(better)
    found = [] if plain == our_plain else [((None, 0, "", 0), our_plain, [plain])]
    for case, journal in our_journals.items():
        allowed = may.get(_alike(case), [])
        if not allowed or case[2] == "EINTR":
            allowed = [*allowed, expected.compared(scenario, plain)]
        if expected.compared(scenario, journal) not in allowed and not expected.is_expected(scenario, case, journal, plain):
            found.append((case, journal, allowed))
    return found


def _on_asyncio(cases, calls):
    """What to play on asyncio for these cases of aioxide: all calls of their classes, up to MANY."""
    return [
        (failing, nth, error, times)
        for failing, _, error, times in {_alike(case): case for case in cases}.values()
        for nth in range(1, min(calls.get(failing, 1) + 3, MANY) + 1)
    ]


def compare(scenario, library, which="some"):
    """The differences of a scenario, after a second look at them; and how many cases there were."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda module: play(module, scenario, library, which), MODULES))
    found = differences(scenario, *both)
    count = sum(len(journals) for _, journals, _ in both)
    if found:
        ours = [case for case, _, _ in found]
        theirs = _on_asyncio(ours, both[0][2])
        # no case at all would be all of them
        nothing = (None, 0, "EIO", 0)
        chosen = ([*theirs, nothing], [*ours, nothing])
        with ThreadPoolExecutor(2) as pool:
            again = pool.map(
                lambda module, cases: play(module, scenario, library, which, cases, PATIENT),
                MODULES,
                chosen,
            )
        found = differences(scenario, *again)
    return found, count


def crashes(scenario, library, which="some"):
    """The cases of a scenario that end the process on aioxide and none of whose like does so on
    asyncio, as text."""
    _, journals, calls = play("aioxide", scenario, library, which)
    ended = {case: journal for case, journal in journals.items() if "process" in journal}
    if ended:
        _, theirs, _ = play("asyncio", scenario, library, which, _on_asyncio(ended, calls))
        excused = {_alike(case) for case, journal in theirs.items() if "process" in journal}
        ended = {case: journal for case, journal in ended.items() if _alike(case) not in excused}
    return "\n".join(f"{' '.join(map(str, case))}\n{text(one)}" for case, one in ended.items())


def text(journal):
    """A journal as lines."""
    return "\n".join(
        f"      {side}: {', '.join(' '.join(map(str, line)) for line in lines)}"
        for side, lines in sorted(journal.items())
    )


def report(found, most=10):
    """Differences as a text to read, those alike together."""
    alike = {}
    for case, journal, allowed in found:
        alike.setdefault((case[0], text(journal)), []).append((case, allowed))
    parts = []
    for (_, journal), cases in list(alike.items())[:most]:
        names = ", ".join(" ".join(map(str, case)) for case, _ in cases)
        texts = sorted({text(one) for one in cases[0][1]})
        parts.append(f"  {names}\n    aioxide:\n{journal}\n    asyncio:\n" + "\n      or\n".join(texts))
    if len(alike) > most:
        parts.append(f"  and {len(alike) - most} more")
    return "\n".join(parts)
