"""The memory of a burst of handles: an idle loop gives it back, and so does a loop's end."""

import asyncio
import gc
import sys
import time

import pytest

HANDLES = 50_000
# Blocks that a round may take for good, of which the freed objects that are kept are most.
FEW = 12_000

KINDS = {
    "calls": lambda loop: loop.call_soon(int),
    "timers": lambda loop: loop.call_later(1e-6, int),
    "cancelled": lambda loop: loop.call_later(100, int),
}


def burst(loop, kind):
    for handle in [KINDS[kind](loop) for _ in range(HANDLES)]:
        if kind == "cancelled":
            handle.cancel()


@pytest.fixture
def blocks():
    gc.collect()
    before = sys.getallocatedblocks()
    return lambda: sys.getallocatedblocks() - before


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_loop_gives_it_back(loop, blocks, kind):
    async def main():
        burst(loop, kind)
        end = time.monotonic() + 20
        # Nothing happens in the loop meanwhile: it wakes by itself.
        await asyncio.sleep(0.5)
        while blocks() > FEW and time.monotonic() < end:
            await asyncio.sleep(0.5)
        assert blocks() <= FEW

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_busy_loop_gives_it_back_where_it_waits(loop, blocks, kind):
    async def main():
        burst(loop, kind)
        end = time.monotonic() + 20
        waits = 0
        while blocks() > FEW and time.monotonic() < end:
            await asyncio.sleep(1e-4)
            waits += 1
        assert blocks() <= FEW
        return waits

    # Not at once, which would hold other callbacks up.
    assert loop.run_until_complete(main()) < HANDLES


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_loop_gives_it_back(loop_factory, blocks, kind):
    loop = loop_factory()
    burst(loop, kind)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert blocks() <= FEW
