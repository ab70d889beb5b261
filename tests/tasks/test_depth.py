"""What nests very deep: long chains of objects that go together, awaits and calls within one another.

Each in a program of its own, as what goes wrong there ends the process.
"""

import asyncio
import gc
import sys
import textwrap
import weakref

import pytest

from peers import program

LENGTH = 100_000

# Each makes `chain`, of LENGTH objects that hold one another.
CHAINS = {
    "futures": """
    for _ in range(length):
        future = loop.create_future()
        future.set_result(chain)
        chain = future
    """,
    "futures of a subclass": """
    class Future(aio.Future):
        pass
    for _ in range(length):
        future = Future(loop=loop)
        future.set_result(chain)
        chain = future
    """,
    "iterators": """
    for _ in range(length):
        future = loop.create_future()
        future.set_result(chain)
        chain = future.__await__()
    """,
    "callbacks": """
    for _ in range(length):
        future = loop.create_future()
        if chain is not None:
            future.add_done_callback(chain.set_result)
        chain = future
    """,
    "exceptions": """
    for _ in range(length):
        future = loop.create_future()
        future.set_exception(ValueError(chain))
        future.exception()
        chain = future
    """,
    "tasks": """
    async def give(what):
        return what
    async def main():
        chain = None
        for _ in range(length):
            task = loop.create_task(give(chain))
            await task
            chain = task
        return chain
    chain = loop.run_until_complete(main())
    """,
    "handles": """
    for _ in range(length):
        chain = loop.call_soon(print, chain)
    """,
    "timers": """
    for _ in range(length):
        chain = loop.call_later(100, print, chain)
    """,
    "contexts": """
    import contextvars
    variable = contextvars.ContextVar("variable")
    for _ in range(length):
        context = contextvars.Context()
        context.run(variable.set, chain)
        chain = loop.call_later(100, print, context=context)
    del context
    """,
    "queues": """
    for kind in aio.Queue, aio.LifoQueue, aio.PriorityQueue:
        for _ in range(length // 3):
            queue = kind()
            queue.put_nowait(chain)
            chain = queue
    """,
    "attributes": """
    for kind in aio.Event, aio.Lock, aio.Semaphore, aio.Condition, aio.StreamReader:
        for _ in range(length // 5):
            owner = kind()
            owner.attribute = chain
            chain = owner
    """,
    "gathering": """
    async def hold():
        future = loop.create_future()
        for _ in range(length):
            future = aio.gather(future)
        return [future]
    chain = loop.run_until_complete(hold())
    """,
    "shields": """
    async def hold():
        future = loop.create_future()
        for _ in range(length):
            future = aio.shield(future)
        return [future]
    chain = loop.run_until_complete(hold())
    """,
    "coroutines": """
    for _ in range(length // 5):
        chain = aio.sleep(0, chain)
        chain = aio.wait_for(chain, 1)
        chain = aio.to_thread(print, chain)
        chain = aio.Queue(1).put(chain)
        chain = aio.wait([chain])
    """,
    "timeouts": """
    for _ in range(length):
        chain = aio.timeout_at(chain)
    """,
    "other objects between": """
    for _ in range(length):
        future = loop.create_future()
        future.set_result({"chain": (chain, [chain])})
        chain = future
    """,
    "a cycle": """
    for _ in range(length):
        future = loop.create_future()
        future.set_result(chain)
        chain = future
    chain = [chain]
    chain.append(chain)
    """,
}

@pytest.mark.aioxide_alone
@pytest.mark.hung_after(120)
@pytest.mark.parametrize("name", CHAINS)
def test_a_long_chain_is_let_go(aio, name):
    text = (
        "import gc, warnings\n"
        "warnings.simplefilter('ignore')\n"
        f"length = {LENGTH}\n"
        "loop = aio.new_event_loop()\n"
        "asyncio.set_event_loop(loop)\n"
        "chain = None\n"
        + textwrap.dedent(CHAINS[name])
        + "future = task = queue = owner = None\n"
        "loop.close()\n"
        "chain = None\n"
        "gc.collect()\n"
        "print('gone')\n"
    )
    result = program(aio, text, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "gone\n", "")


def test_each_of_a_chain_goes_once(run):
    """Those that have to wait for their turn too, with what the program does as they go."""
    async def main():
        loop = asyncio.get_running_loop()
        gone = []

        class Noted:
            def __init__(self, number, next):
                self.number = number
                self.next = next

            def __del__(self):
                gone.append(self.number)
                sum(other() is not None for other in references[: self.number % 7])

        chain = None
        references = []
        for number in range(1000):
            future = loop.create_future()
            future.set_result(Noted(number, chain))
            references.append(weakref.ref(future))
            chain = future
        del future
        chain = None
        assert sorted(gone) == list(range(1000))
        assert not any(reference() for reference in references)
        gc.collect()
        assert len(gone) == 1000

    run(main)


NESTED = """
import threading, warnings
warnings.simplefilter("ignore")
def outcome(main, levels):
    loop = aio.new_event_loop()
    loop.set_exception_handler(lambda loop, report: None)
    try:
        return loop.run_until_complete(main(levels))
    except RecursionError:
        return "RecursionError"
    finally:
        loop.close()
def in_thread(size, main, levels):
    outcomes = []
    threading.stack_size(size)
    thread = threading.Thread(target=lambda: outcomes.append(outcome(main, levels)))
    thread.start()
    thread.join()
    return outcomes[0]
async def recursion(levels):
    if levels:
        return 1 + await aio.wait_for(recursion(levels - 1), 100)
    return 0
async def chain(levels):
    awaitable = aio.sleep(0, "done")
    for _ in range(levels):
        awaitable = aio.wait_for(awaitable, None)
    return await awaitable
async def through_await(levels):
    class Awaitable:
        def __init__(self, inner):
            self.inner = inner
        def __await__(self):
            return self.inner.__await__()
    awaitable = aio.sleep(0, "done")
    for _ in range(levels):
        awaitable = aio.wait_for(Awaitable(awaitable), None)
    return await awaitable
async def thrown(levels):
    future = asyncio.get_running_loop().create_future()
    awaitable = future
    for _ in range(levels):
        awaitable = aio.wait_for(awaitable, None)
    awaitable.send(None)
    walked, inner = 0, awaitable
    while getattr(inner, "cr_await", None) is not None:
        walked, inner = walked + 1, inner.cr_await
    assert walked >= levels - 1
    try:
        awaitable.throw(ValueError("thrown"))
    except ValueError as error:
        return str(error)
async def closed(levels):
    future = asyncio.get_running_loop().create_future()
    awaitable = future
    for _ in range(levels):
        awaitable = aio.wait_for(awaitable, None)
    awaitable.send(None)
    awaitable.close()
    return awaitable.cr_await
async def cancelled(levels):
    loop = asyncio.get_running_loop()
    async def wait(future):
        return await future
    task = future = loop.create_future()
    for _ in range(levels):
        task = loop.create_task(wait(task))
    await asyncio.sleep(0)
    try:
        task.cancel()
        return "cancelled"
    finally:
        while not task.done():
            future.cancel()
            await asyncio.sleep(0)
async def gathered(levels):
    future = asyncio.get_running_loop().create_future()
    for _ in range(levels):
        future = aio.gather(future)
    return future.cancel()
"""

DEEP = ["chain", "through_await", "thrown", "closed", "cancelled", "gathered"]


@pytest.mark.hung_after(120)
@pytest.mark.parametrize("name", DEEP)
def test_what_nests_without_end_is_a_recursion_error(aio, name):
    result = program(aio, NESTED + f"print(outcome({name}, {LENGTH}))\nos._exit(0)", check=False)
    assert (result.returncode, result.stdout) == (0, "RecursionError\n"), result.stderr[-500:]


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("name", DEEP)
def test_in_a_thread_with_a_small_stack(aio, name):
    text = NESTED + f"print(in_thread(131072, {name}, {LENGTH}))\nos._exit(0)"
    result = program(aio, text, check=False)
    assert (result.returncode, result.stdout) == (0, "RecursionError\n"), result.stderr[-500:]


@pytest.mark.parametrize("size", [131072, 0], ids=["small", "usual"])
@pytest.mark.parametrize("levels", [30, 200])
def test_a_recursion_through_wait_for(aio, size, levels):
    if levels == 200 and size and hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build takes several times the stack")
    text = NESTED + f"print(in_thread({size}, recursion, {levels}))"
    result = program(aio, text, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{levels}\n", "")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="wait_for() makes a task for each level before 3.12")
def test_a_recursion_as_deep_as_the_program_wants(aio):
    if hasattr(sys, "gettotalrefcount"):
        pytest.skip("a debug build takes several times the stack")
    text = NESTED + "sys.setrecursionlimit(100_000)\nprint(in_thread(131072, recursion, 5_000))"
    result = program(aio, text, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "5000\n", "")
