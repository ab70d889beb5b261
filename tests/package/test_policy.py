"""EventLoopPolicy, new_event_loop() and run(): aioxide's loop without install()."""

import asyncio
import contextlib
import importlib.metadata
import subprocess
import sys
import threading
import warnings

import pytest

import aioxide


@pytest.fixture
def policy():
    """aioxide's policy as the process's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(aioxide.EventLoopPolicy())
        yield asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(None)


def test_the_policy_is_a_default_policy(policy):
    assert isinstance(policy, asyncio.unix_events._UnixDefaultEventLoopPolicy)
    loop = policy.new_event_loop()
    assert type(loop) is aioxide.Loop
    loop.close()


def test_the_policy_serves_new_event_loop_and_run(policy):
    async def main():
        return type(asyncio.get_running_loop())

    loop = asyncio.new_event_loop()
    loop.close()
    assert type(loop) is aioxide.Loop
    assert asyncio.run(main()) is aioxide.Loop


def test_the_policy_keeps_a_loop_per_thread(policy):
    loop = policy.new_event_loop()
    policy.set_event_loop(loop)
    seen = []

    def other():
        with pytest.raises(RuntimeError, match="no current event loop in thread"):
            policy.get_event_loop()
        seen.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert policy.get_event_loop() is loop and seen == [True]
    policy.set_event_loop(None)
    loop.close()


def test_a_subclass_of_the_policy_is_honoured():
    made = []

    class Policy(aioxide.EventLoopPolicy):
        def new_event_loop(self):
            made.append(super().new_event_loop())
            return made[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(Policy())
        try:
            asyncio.run(asyncio.sleep(0))
        finally:
            asyncio.set_event_loop_policy(None)
    assert [type(loop) for loop in made] == [aioxide.Loop]


def test_run_returns_the_result_and_closes_the_loop():
    async def main():
        return asyncio.get_running_loop()

    loop = aioxide.run(main())
    assert type(loop) is aioxide.Loop and loop.is_closed()


def test_run_takes_what_asyncio_run_takes():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert aioxide.run(main(), debug=True) is True
    assert aioxide.run(main(), debug=False) is False
    made = []

    def factory():
        made.append(asyncio.SelectorEventLoop())
        return made[0]

    aioxide.run(main(), loop_factory=factory)
    assert made[0].is_closed()


@contextlib.contextmanager
def decided_by(policy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)
    try:
        yield policy
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(None)


def default_policy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.DefaultEventLoopPolicy


@pytest.mark.parametrize("run", [asyncio.run, aioxide.run])
def test_run_asks_a_policy_of_the_programs_own(run):
    seen = []

    class Own(default_policy()):
        def new_event_loop(self):
            seen.append("new")
            return asyncio.SelectorEventLoop()

        def set_event_loop(self, loop):
            seen.append(loop and type(loop))
            super().set_event_loop(loop)

    async def main():
        return type(asyncio.get_running_loop())

    with decided_by(Own()):
        assert run(main()) is asyncio.SelectorEventLoop
        assert seen == ["new", asyncio.SelectorEventLoop, None]
        # 3.11's asyncio.run() takes no factory.
        assert aioxide.run(main(), loop_factory=aioxide.new_event_loop) is aioxide.Loop
    assert len(seen) == 3


@pytest.mark.parametrize("run", [asyncio.run, aioxide.run])
def test_run_makes_its_loop_the_current_one(run):
    seen = []

    async def main():
        return asyncio.get_running_loop()

    with decided_by(default_policy()()) as current:
        current.set_event_loop = seen.append
        assert [run(main()), None] == seen
        current.new_event_loop = lambda: made.append(asyncio.SelectorEventLoop()) or made[-1]
        made = []
        assert [run(main())] == made == [seen[2]]


def test_run_makes_no_loop_of_a_policy_that_is_asyncios():
    async def main():
        return type(asyncio.get_running_loop())

    for made in (default_policy()(), aioxide.EventLoopPolicy()):
        with decided_by(made):
            assert aioxide.run(main()) is aioxide.Loop


def test_run_refuses_a_second_loop_in_asyncios_words():
    async def main(run):
        coro = asyncio.sleep(0)
        try:
            run(coro)
        except RuntimeError as error:
            return str(error)
        finally:
            coro.close()

    assert aioxide.run(main(aioxide.run)) == asyncio.run(main(asyncio.run))


@pytest.mark.parametrize("bad", [None, 1, asyncio.sleep, "x"])
def test_run_refuses_what_is_no_coroutine_in_asyncios_words(bad):
    seen = []
    for run in (asyncio.run, aioxide.run):
        with pytest.raises(Exception) as caught:
            run(bad)
        seen.append((caught.type, str(caught.value)))
    if bad is not asyncio.sleep:
        assert seen[0] == seen[1]
    assert seen[0][0] is seen[1][0]


def test_importing_is_harmless():
    code = """
import asyncio, sys, threading, warnings
import asyncio.tasks as tasks, _asyncio
warnings.simplefilter("error")
def state():
    return {
        (name, key): value
        for name, module in sys.modules.items() if name.partition(".")[0] in ("asyncio", "_asyncio")
        for key, value in vars(module).items()
    }
before, old = state(), set(sys.modules)
import aioxide
assert state() == before
assert threading.active_count() == 1
foreign = {name for name in set(sys.modules) - old if not name.startswith("aioxide")}
assert not foreign, foreign
assert "EventLoopPolicy" in dir(aioxide)
aioxide.EventLoopPolicy
for name in aioxide.__all__:
    getattr(aioxide, name)
try:
    aioxide.nonsense
except AttributeError as error:
    assert str(error) == "module 'aioxide' has no attribute 'nonsense'"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_version_is_the_packages():
    assert aioxide.__version__ == importlib.metadata.version("aioxide")
