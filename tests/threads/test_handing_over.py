"""What asyncio promises to other threads, to the exact number: calls, coroutines, futures, jobs."""

import asyncio
import collections
import concurrent.futures
import random
import threading
import time

import pytest

THREADS = 6
# In seconds: what has not come then is lost.
PATIENCE = 60

# On a busy machine each wake-up takes some milliseconds.
pytestmark = pytest.mark.hung_after(2 * PATIENCE)


def start(work, count=THREADS):
    """Threads that do `work(number)`; a function that waits for them and raises what one raised."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        for error in errors:
            raise error

    return join


def run_while(loop, join):
    """Run the loop until threads that were started have ended, and what they left has run."""

    def wait():
        try:
            join()
        finally:
            loop.call_soon_threadsafe(loop.stop)

    failed = concurrent.futures.Future()

    def outer():
        try:
            failed.set_result(wait())
        except BaseException as error:
            failed.set_exception(error)

    thread = threading.Thread(target=outer)
    thread.start()
    loop.run_forever()
    thread.join()
    failed.result()


@pytest.mark.parametrize("is_busy", [False, True], ids=["waiting", "busy"])
def test_each_call_runs_once_and_in_order(loop, is_busy):
    calls, seen = 2000, []

    def work(name):
        choose = random.Random(name)
        for number in range(calls):
            loop.call_soon_threadsafe(seen.append, (name, number))
            if not is_busy and choose.random() < 0.02:
                time.sleep(0.0005)

    def spin():
        if not ended:
            loop.call_soon(spin)

    ended = []
    if is_busy:
        loop.call_soon(spin)
    join = start(work)
    run_while(loop, lambda: (join(), ended.append(True)))
    by_thread = collections.defaultdict(list)
    for name, number in seen:
        by_thread[name].append(number)
    assert by_thread == {name: list(range(calls)) for name in range(THREADS)}


def test_each_call_wakes_the_loop(loop):
    """Each thread waits until its call has come, so the loop waits in between."""
    turns = 50

    def work(name):
        come = threading.Event()
        for _ in range(turns):
            loop.call_soon_threadsafe(come.set)
            assert come.wait(PATIENCE), "a wake-up is lost"
            come.clear()

    run_while(loop, start(work))


def test_a_call_wakes_the_loop_before_its_next_timer(loop):
    loop.call_later(3600, print)

    def work(name):
        for _ in range(50):
            come = threading.Event()
            loop.call_soon_threadsafe(come.set)
            assert come.wait(PATIENCE)
            time.sleep(0.0002)

    run_while(loop, start(work, 2))


def test_handles_cancelled_by_other_threads(loop):
    """Each call either runs once or is cancelled; a call that the loop has not come to is."""
    calls = 2000
    handles, ran = collections.deque(), collections.Counter()
    cancelled = []

    def schedule(name):
        for number in range(calls):
            handles.append(((name, number), loop.call_soon_threadsafe(ran.update, [(name, number)])))
        over.append(name)

    def cancel(name):
        while len(over) < 2 or handles:
            try:
                which, handle = handles.pop()
            except IndexError:
                time.sleep(0)
                continue
            before = ran[which]
            handle.cancel()
            cancelled.append((which, before))

    over = []
    join = start(lambda name: schedule(name) if name < 2 else cancel(name), 4)
    run_while(loop, join)
    assert len(cancelled) == 2 * calls
    assert set(ran.values()) <= {0, 1}
    assert all(ran[which] == 1 for which, before in cancelled if before)


def test_no_call_runs_after_its_cancellation(loop):
    """The loop is held up by an entry, and everything behind it is cancelled meanwhile."""
    for _ in range(20):
        held, go_on = threading.Event(), threading.Event()
        ran = []

        def hold():
            held.set()
            go_on.wait(PATIENCE)

        def work(name):
            handles = [loop.call_soon_threadsafe(ran.append, number) for number in range(20)]
            held.wait(PATIENCE)
            for handle in handles[::2]:
                handle.cancel()
            go_on.set()

        loop.call_soon(hold)
        run_while(loop, start(work, 1))
        assert ran == list(range(1, 20, 2))


def test_coroutines_of_other_threads(aio, loop):
    """Each thread gets its own results, exceptions and cancellations."""
    calls = 60

    async def give(value):
        if value[1] % 3 == 0:
            await asyncio.sleep(0)
        if value[1] % 5 == 0:
            raise LookupError(value)
        return value

    async def wait_for_ever():
        await loop.create_future()

    def work(name):
        for number in range(calls):
            future = aio.run_coroutine_threadsafe(give((name, number)), loop)
            if number % 5:
                assert future.result(PATIENCE) == (name, number)
            else:
                with pytest.raises(LookupError) as caught:
                    future.result(PATIENCE)
                assert caught.value.args == ((name, number),)
            if number % 7 == 0:
                future = aio.run_coroutine_threadsafe(wait_for_ever(), loop)
                assert future.cancel()
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(PATIENCE)

    run_while(loop, start(work))
    loop.run_until_complete(asyncio.sleep(0))
    assert aio.all_tasks(loop) == set()


def test_futures_of_other_threads(aio, loop):
    """wrap_future: threads end futures before, while and after the loop begins to wait."""
    count = 1500
    sources = [concurrent.futures.Future() for _ in range(count)]

    def work(name):
        for number in range(name, count, THREADS):
            if number % 11 == 0:
                sources[number].cancel()
            elif number % 7 == 0:
                sources[number].set_exception(LookupError(number))
            else:
                sources[number].set_result(number)

    async def main():
        wrapped = [aio.wrap_future(source) for source in sources[::2]]
        join = start(work)
        wrapped += [aio.wrap_future(source) for source in sources[1::2]]
        results = await aio.gather(*wrapped, return_exceptions=True)
        join()
        return results

    results = loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
    for number, result in zip([*range(0, count, 2), *range(1, count, 2)], results, strict=True):
        if number % 11 == 0:
            assert isinstance(result, asyncio.CancelledError)
        elif number % 7 == 0:
            assert result.args == (number,)
        else:
            assert result == number


def test_jobs_of_many_loops_in_one_executor(aio):
    """Loops on several threads share an executor; each gets the results of its own jobs."""
    jobs = 200

    async def main(name, executor):
        loop = asyncio.get_running_loop()
        seen = [
            aio.gather(
                *(loop.run_in_executor(executor, divmod, name * 1000 + number, 7) for number in some),
                *(aio.to_thread(pow, number, 2) for number in some),
            )
            for some in (range(jobs // 2), range(jobs // 2, jobs))
        ]
        first, second = [await one for one in seen]
        half = jobs // 2
        expected = [divmod(name * 1000 + number, 7) for number in range(jobs)]
        assert first[:half] + second[:half] == expected
        assert first[half:] + second[half:] == [number * number for number in range(jobs)]
        await loop.shutdown_default_executor()

    with concurrent.futures.ThreadPoolExecutor(3) as executor:

        def work(name):
            loop = aio.new_event_loop()
            try:
                loop.run_until_complete(main(name, executor))
            finally:
                loop.close()

        start(work)()


def test_jobs_that_other_threads_submit(aio, loop):
    """Strangers have the loop run coroutines that wait for its default executor."""

    def work(name):
        futures = [
            aio.run_coroutine_threadsafe(aio.to_thread(pow, name, number), loop) for number in range(100)
        ]
        assert [future.result(PATIENCE) for future in futures] == [name**number for number in range(100)]

    run_while(loop, start(work))
    loop.run_until_complete(loop.shutdown_default_executor())


def test_stopped_by_other_threads(loop):
    """Each run of the loop ends, and only when it was told to."""
    runs, turns = 100, threading.Semaphore(0)
    stopped = []

    def stop(number):
        stopped.append(number)
        loop.stop()

    def work(name):
        for number in range(runs):
            assert turns.acquire(timeout=PATIENCE)
            loop.call_soon_threadsafe(stop, number)

    join = start(work, 1)
    for number in range(runs):
        turns.release()
        loop.run_forever()
        assert stopped == list(range(number + 1))
    join()


def test_objects_that_other_threads_end_by_calls(aio, loop):
    """A queue, an event and futures, used by the loop's own calls for other threads."""
    items = 1000
    queue, event = aio.Queue(), aio.Event()
    futures = [loop.create_future() for _ in range(THREADS)]

    def work(name):
        for number in range(items):
            loop.call_soon_threadsafe(queue.put_nowait, (name, number))
        loop.call_soon_threadsafe(futures[name].set_result, name)
        if name == 0:
            loop.call_soon_threadsafe(event.set)

    async def main():
        join = start(work)
        got = collections.defaultdict(list)
        for _ in range(THREADS * items):
            name, number = await queue.get()
            got[name].append(number)
        await event.wait()
        assert await aio.gather(*futures) == list(range(THREADS))
        assert got == {name: list(range(items)) for name in range(THREADS)}
        assert queue.empty()
        join()

    loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))


def test_handles_and_arguments_dropped_by_other_threads(loop):
    """What a call holds is released, whoever gives it up last."""
    calls, alive = 500, collections.Counter()

    class Counted:
        def __init__(self, name):
            self.name = name
            alive["made"] += 1

        def __del__(self):
            released.append(self.name)

    released = []
    kept = collections.deque()

    def work(name):
        for number in range(calls):
            argument = Counted((name, number))
            handle = loop.call_soon_threadsafe(ignore, argument)
            kept.append(handle)
            del argument, handle
            if number % 2 and kept:
                kept.popleft()

    def ignore(argument):
        pass

    run_while(loop, start(work))
    kept.clear()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert collections.Counter(released) == {
        (name, number): 1 for name in range(THREADS) for number in range(calls)
    }
