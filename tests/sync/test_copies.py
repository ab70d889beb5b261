"""Copies and pickles of locks and queues, and their `__dict__`: as of classes made in Python.

Each program runs on asyncio and under `python -m aioxide`, where pickle finds the native classes by
asyncio's names. Both must say the same.
"""

import asyncio
import subprocess
import sys

import pytest

HEAD = """
import asyncio, builtins, copy, copyreg, gc, io, pickle, re, sys, types, weakref
WAYS = [("copy", copy.copy), ("deepcopy", copy.deepcopy)]
for number in range(pickle.HIGHEST_PROTOCOL + 1):
    WAYS.append((f"pickle {number}", lambda o, n=number: pickle.loads(pickle.dumps(o, n))))
    WAYS.append((f"pickle {number} in Python", lambda o, n=number: in_python(o, n)))

def in_python(item, protocol):
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(item)
    file.seek(0)
    return pickle._Unpickler(file).load()

def show(name, function):
    try:
        print(name, text(function()))
    except BaseException as error:
        print(name, "!", type(error).__name__, text(str(error)))

def text(value):
    return re.sub("0x[0-9a-f]+", "0x?", value if isinstance(value, str) else repr(value))

def print(*values):
    builtins.print(*(text(str(value)) for value in values))

def take(queue):
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items

ALL = [asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.BoundedSemaphore,
       lambda: asyncio.Barrier(3), lambda: asyncio.Queue(5), lambda: asyncio.PriorityQueue(5), lambda: asyncio.LifoQueue(5)]
"""

PROGRAMS = {
    "all classes": """
def use(item):
    if hasattr(item, "put_nowait"):
        for value in 3, 1, 2:
            item.put_nowait(value)
        return take(item), item
    if isinstance(item, asyncio.Event):
        item.set()
        return item.is_set(), item
    if isinstance(item, asyncio.Barrier):
        return item.parties, item.n_waiting, item.broken, item
    async def acquire():
        async with item:
            return item.locked(), item
    return asyncio.run(acquire()), item.locked()

for make in ALL:
    for name, way in WAYS:
        show(name, lambda: use(way(make())))
        show(name, lambda: use(way(way(make()))))
        item = make()
        copied = way(item)
        show(name, lambda: (use(item), use(copied), type(copied) is type(item), repr(copied)))
""",
    "filled queues": """
for make in asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue:
    for name, way in WAYS:
        queue = make(4)
        for item in 3, 1, 2:
            queue.put_nowait(item)
        copied = way(queue)
        show(name, lambda: (copied.maxsize, copied.qsize(), copied._unfinished_tasks, copied._finished.is_set()))
        copied.put_nowait(0)
        show(name, lambda: copied.put_nowait(9))
        show(name, lambda: (take(copied), take(queue), copied._queue is queue._queue))
        async def join():
            for _ in range(4):
                copied.task_done()
            await copied.join()
            show("done", copied.task_done)
            await copied.put("later")
            return await copied.get()
        show(name, lambda: asyncio.run(join()))
""",
    "what they hold": """
import collections
async def main():
    lock = asyncio.Lock()
    await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    copied = copy.copy(lock)
    print(copied, copied._waiters is lock._waiters, copied._loop is lock._loop)
    lock.release()
    print(await waiting, lock, copied)
    for protocol in 2, 3, 4, 5:
        try:
            pickle.dumps(lock, protocol)
        except Exception:
            print("refused")
    event = asyncio.Event()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    print(sorted(vars(event)), vars(event)["_waiters"] is event._waiters, event)
    event.set()
    print(await waiting, event, sorted(vars(event)))
    queue = asyncio.Queue(1)
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    shared = copy.copy(queue)
    shared.put_nowait("to the one who waits")
    print(shared.qsize(), queue.qsize(), len(queue._getters))
    queue.put_nowait
    print(await getting, queue, shared)
    try:
        pickle.dumps(queue)
    except Exception:
        print("refused")
asyncio.run(main())
""",
    "vars": """
class Tagged(asyncio.PriorityQueue):
    def __init__(self, *args):
        super().__init__(*args)
        self.tag = "t"
for make in [*ALL, lambda: Tagged(2)]:
    item = make()
    item.mine = 1
    show("keys", lambda: list(vars(item)))
    show("again", lambda: (list(vars(item)), vars(item) is vars(item), item.__dict__ is item.__getstate__()))
    show("text", lambda: {key: text(value) for key, value in vars(item).items() if not callable(value)})
lock = asyncio.Lock()
vars(lock)["_locked"] = True
show("set", lambda: (lock.locked(), lock, vars(lock)["_locked"]))
kept = vars(lock)
lock.release()
show("kept", lambda: (kept["_locked"], lock.locked(), lock))
async def acquire():
    await lock.acquire()
    print(kept["_locked"], lock)
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    print(len(kept["_waiters"]), lock)
    kept["other"] = 5
    lock.release()
    print(await waiting, lock.other, kept["_locked"])
    lock.release()
    async with lock:
        print(kept["_locked"])
asyncio.run(acquire())
del kept["_locked"]
show("deleted", lock.locked)
show("deleted", lambda: lock._locked)
show("deleted", lambda: repr(lock))
show("deleted", lock.release)
show("deleted", lambda: asyncio.run(lock.acquire()))
lock._locked = False
show("back", lambda: (lock.locked(), lock))
lock.__dict__ = {}
show("emptied", lock.locked)
lock.__dict__ = {"_locked": True, "_waiters": None, "more": 1}
show("replaced", lambda: (lock.locked(), lock.more, lock.release(), lock))
queue = asyncio.Queue()
queue.__dict__["_maxsize"] = 1
queue.put_nowait(1)
show("full", lambda: (queue.full(), queue))
queue.__dict__.update(put_nowait=lambda item: "replaced", _get=lambda: "gotten")
show("methods", lambda: (queue.put_nowait(2), queue.get_nowait(), asyncio.run(queue.put(3)) if not queue.full() else 0))
queue = asyncio.Queue()
kept = vars(queue)
queue.put_nowait(1)
show("kept", lambda: (list(kept["_queue"]), kept["_unfinished_tasks"], queue.qsize(), queue.get_nowait(), kept["_finished"].is_set()))
queue.task_done()
show("kept", lambda: (kept["_unfinished_tasks"], kept["_finished"].is_set(), queue))
for make in ALL:
    item = make()
    for name, value in list(vars(item).items()):
        taken = vars(item).pop(name)
        show(name, lambda: repr(item))
        vars(item)[name] = taken
        show(name, lambda: repr(item))
    state = vars(item)
    other = item.__class__.__new__(item.__class__)
    show("new", lambda: repr(other))
    other.__dict__.update(state)
    del state
    show("filled", lambda: repr(other))
""",
    "not initialized": """
class Lazy(asyncio.Queue):
    def __init__(self):
        pass
class Late(asyncio.Semaphore):
    def __init__(self):
        self.early = 1
        super().__init__(2)
class Event(asyncio.Event):
    def __init__(self):
        self.is_set = lambda: "mine"
        super().__init__()
show("lazy", lambda: Lazy().put_nowait(1))
show("lazy", lambda: asyncio.run(Lazy().get()))
show("lazy", lambda: (vars(Lazy()), Lazy().__getstate__()))
show("late", lambda: (Late(), sorted(vars(Late()))))
show("event", lambda: (Event().is_set(), sorted(vars(Event()))))
for name in "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Queue", "PriorityQueue":
    cls = getattr(asyncio, name)
    item = cls.__new__(cls)
    show(name, lambda: vars(item))
    show(name, lambda: repr(item))
    show(name, lambda: item._waiters)
    show(name, lambda: item._queue)
    show(name, lambda: item._loop)
    for method in "locked", "release", "is_set", "set", "clear", "qsize", "empty", "full", "get_nowait", "task_done":
        if hasattr(cls, method) and name != "Condition":
            show(name + method, lambda: getattr(item, method)())
    for method in "acquire", "wait", "get", "join":
        if hasattr(cls, method) and name != "Condition":
            show(name + method, lambda: asyncio.run(getattr(item, method)()))
    item.__init__()
    show(name, lambda: (repr(item), sorted(vars(item))))
    item.__init__()
    show(name, lambda: (repr(item), sorted(vars(item))))
""",
    "hooks": """
class State(asyncio.Queue):
    def __getstate__(self):
        print("getstate")
        return {"items": list(self._queue), "maxsize": self.maxsize}
    def __setstate__(self, state):
        print("setstate", state)
        self.__init__(state["maxsize"])
        for item in state["items"]:
            self.put_nowait(item)
class Dict(asyncio.LifoQueue):
    def __getstate__(self):
        state = self.__dict__.copy()
        state["_queue"] = state["_queue"][:1]
        return state
    def __setstate__(self, state):
        self.__dict__.update(state)
        self.restored = True
class Super(asyncio.Semaphore):
    def __getstate__(self):
        state = dict(super().__getstate__())
        state["extra"] = len(state)
        return state
class Only(asyncio.Semaphore):
    def __getstate__(self):
        return {"extra": 1}
class Nothing(asyncio.Lock):
    def __getstate__(self):
        return None
class Pair(asyncio.Event):
    __slots__ = ("tag", "unset")
class PairHook(asyncio.Event):
    __slots__ = ("tag",)
    def __getstate__(self):
        return super().__getstate__()
class Mixin:
    def __getstate__(self):
        print("mixin")
        return {**self.__dict__, "mixed": True}
class Before(Mixin, asyncio.PriorityQueue):
    pass
class After(asyncio.PriorityQueue, Mixin):
    pass
class Reducing:
    def __reduce__(self):
        return (str, ("reduced",))
class ReduceAfter(asyncio.Lock, Reducing):
    pass
class ReducingEx:
    def __reduce_ex__(self, protocol):
        return (str, (f"reduced {protocol}",))
class ReduceExAfter(asyncio.Lock, ReducingEx):
    pass
class New(asyncio.Lock):
    def __new__(cls, name):
        item = super().__new__(cls)
        item.name = name
        return item
    def __init__(self, name):
        super().__init__()
    def __getnewargs__(self):
        return (self.name,)
class NewEx(asyncio.Lock):
    def __new__(cls, *, name):
        item = super().__new__(cls)
        item.name = name + "?"
        return item
    def __init__(self, *, name):
        super().__init__()
    def __getnewargs_ex__(self):
        return (), {"name": self.name}
class WrongArgs(asyncio.Lock):
    wrong = None
    def __getnewargs__(self):
        return self.wrong
class WrongArgsEx(asyncio.Lock):
    wrong = None
    def __getnewargs_ex__(self):
        return self.wrong
class Copying(asyncio.Queue):
    def __copy__(self):
        return "copied"
    def __deepcopy__(self, memo):
        return "deeply"
class Reduce(asyncio.Queue):
    def __reduce__(self):
        return (Reduce, (self.maxsize,), None, iter(list(self._queue)))
    def extend(self, items):
        for item in items:
            self.put_nowait(item)
    append = asyncio.Queue.put_nowait
class ReduceEx(asyncio.BoundedSemaphore):
    def __reduce_ex__(self, protocol):
        reduced = super().__reduce_ex__(protocol)
        print(len(reduced), sorted(reduced[2]))
        return reduced
class ReduceSuper(asyncio.Event):
    def __reduce__(self):
        reduced = super().__reduce__()
        print(len(reduced), sorted(reduced[2]))
        return reduced
class Both(asyncio.Event):
    def __init__(self):
        super().__init__()
        self.lock = asyncio.Lock()
        self.queue = asyncio.PriorityQueue()
        self.queue.put_nowait((1, self.lock))
        self.itself = self
class Registered(asyncio.Event):
    pass
copyreg.pickle(Registered, lambda item: (str, ("registered",)))
def filled(queue):
    for item in 3, 1, 2:
        queue.put_nowait(item)
    return queue
def tagged(event):
    event.tag, event.more = "t", [1]
    return event
def wrong(item, value):
    item.wrong = value
    return item
for name, way in WAYS:
    show(name, lambda: (lambda c: (c, take(c), sorted(vars(c))))(way(filled(State(4)))))
    show(name, lambda: (lambda c: (c, take(c), c.restored, sorted(vars(c))))(way(filled(Dict(4)))))
    show(name, lambda: (lambda c: (c, c.extra, sorted(vars(c))))(way(Super(4))))
    show(name, lambda: (lambda c: (c.extra, sorted(vars(c))))(way(Only(4))))
    show(name, lambda: way(Only(4)).locked())
    show(name, lambda: way(Nothing()).locked())
    show(name, lambda: (lambda c: (c, c.tag, c.more, sorted(vars(c)), hasattr(c, "unset")))(way(tagged(Pair()))))
    show(name, lambda: (lambda c: (c, c.tag, c.more, sorted(vars(c))))(way(tagged(PairHook()))))
    show(name, lambda: (lambda c: (c.mixed, take(c), sorted(vars(c))))(way(filled(Before()))))
    show(name, lambda: (lambda c: (c.mixed, take(c), sorted(vars(c))))(way(filled(After()))))
    show(name, lambda: way(ReduceAfter()))
    show(name, lambda: way(ReduceExAfter()))
    show(name, lambda: (way(New("x")).name, way(New("x"))))
    show(name, lambda: (way(NewEx(name="x")).name, way(NewEx(name="x"))))
    for value in None, [1], 1, ("x",), ((), {}), ((), ()), ([], {}), ((), {"a": 1}):
        show(name, lambda: way(wrong(WrongArgs(), value)))
        show(name, lambda: way(wrong(WrongArgsEx(), value)))
    show(name, lambda: way(Copying()))
    show(name, lambda: take(way(filled(Reduce(4)))))
    show(name, lambda: way(ReduceEx(4)))
    show(name, lambda: way(ReduceSuper()))
    both = way(Both())
    show(name, lambda: (both.itself is both, both.queue._queue[0][1] is both.lock, both.lock, both))
    show(name, lambda: way(Registered()))
    show(name, lambda: way(wrong(asyncio.Event(), "w")).wrong)
show("protocol", lambda: asyncio.Lock().__reduce_ex__("x"))
show("reduced", lambda: [type(part).__name__ for part in asyncio.Lock().__reduce_ex__(2)])
show("reduced", lambda: sorted(asyncio.Lock().__reduce_ex__(2)[2]))
show("state", lambda: sorted(asyncio.Condition().__getstate__()))
show("state", lambda: asyncio.Event.__getstate__(tagged(Pair())))
show("hooks", lambda: [hasattr(asyncio.Lock, name) for name in ("__setstate__", "__copy__", "__deepcopy__", "__getnewargs__", "__getnewargs_ex__")])
""",
    "conditions": """
async def use(condition):
    async with condition:
        show("locked", lambda: (condition, condition.locked(), condition._lock))
        condition.notify_all()
        waiting = asyncio.create_task(other(condition))
        try:
            await asyncio.wait_for(condition.wait(), 5)
        except BaseException as error:
            print(type(error).__name__)
        await waiting
    show("free", lambda: (condition, condition.locked(), condition._lock))
async def other(condition):
    async with condition:
        condition.notify()
for name, way in WAYS:
    asyncio.run(use(way(asyncio.Condition())))
    lock = asyncio.Lock()
    condition = asyncio.Condition(lock)
    pair = way((lock, condition))
    show(name, lambda: (pair[1]._lock is pair[0], pair[0] is lock))
    asyncio.run(use(pair[1]))
    barrier = way(asyncio.Barrier(2))
    async def meet():
        return sorted(await asyncio.gather(barrier.wait(), barrier.wait())), barrier
    show(name, lambda: asyncio.run(meet()))
class Mine(asyncio.Lock):
    async def acquire(self):
        print("acquire")
        return await super().acquire()
    def release(self):
        print("release")
        super().release()
for name, way in WAYS:
    asyncio.run(use(way(asyncio.Condition(Mine()))))
condition = asyncio.Condition()
kept = vars(condition)
show("kept", lambda: [name for name in kept])
asyncio.run(use(condition))
condition.acquire = "mine"
show("kept", lambda: (kept["acquire"], condition.acquire))
""",
    "asked for while it waits": """
async def main(kind):
    lock = asyncio.Lock()
    await lock.acquire()
    waiting = [asyncio.create_task(lock.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    kept = vars(lock) if kind else dict(vars(lock))
    print(len(kept["_waiters"]), kept["_locked"], list(kept)[:2])
    waiting[1].cancel()
    lock.release()
    print(await waiting[0], lock, kept["_locked"])
    lock.release()
    print(await waiting[2], lock, kept["_locked"])
    del kept
    semaphore = asyncio.Semaphore(1)
    await semaphore.acquire()
    waiting = [asyncio.create_task(semaphore.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    kept = vars(semaphore) if kind else dict(vars(semaphore))
    semaphore.release()
    semaphore.release()
    waiting[0].cancel()
    print(await asyncio.gather(*waiting[1:]), semaphore, kept["_value"])
    queue = asyncio.Queue(1)
    getting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    kept = vars(queue) if kind else dict(vars(queue))
    await queue.put(1)
    await queue.put(2)
    print(await asyncio.gather(*getting), queue, kept["_unfinished_tasks"])
    await queue.put(3)
    putting = asyncio.create_task(queue.put(4))
    joining = asyncio.create_task(queue.join())
    await asyncio.sleep(0)
    kept = vars(queue) if kind else dict(vars(queue))
    print(await queue.get(), await putting, await queue.get())
    for _ in range(4):
        queue.task_done()
    print(await joining, queue, kept["_unfinished_tasks"])
    event = asyncio.Event()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    kept = vars(event) if kind else dict(vars(event))
    event.set()
    print(await waiting, event, kept["_value"])
    condition = asyncio.Condition()
    async def wait():
        async with condition:
            return await condition.wait()
    waiting = [asyncio.create_task(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    kept = vars(condition), vars(condition._lock)
    async with condition:
        condition.notify(2)
    print(await asyncio.gather(*waiting), condition, len(kept[0]["_waiters"]))
    barrier = asyncio.Barrier(2)
    first = asyncio.create_task(barrier.wait())
    await asyncio.sleep(0)
    kept = vars(barrier), vars(barrier._cond), vars(barrier._cond._lock)
    print(barrier.n_waiting, kept[0]["_count"])
    print(await barrier.wait(), await first, barrier, kept[0]["_count"])
asyncio.run(main(True))
asyncio.run(main(False))
""",
    "barriers in parts": """
class Parts(asyncio.Barrier):
    async def _block(self):
        print("block")
        await super()._block()
    async def _release(self):
        print("release")
        await super()._release()
    async def _wait(self):
        print("wait")
        await super()._wait()
    def _exit(self):
        print("exit")
        super()._exit()
async def main():
    barrier = Parts(2)
    async def enter():
        async with barrier as number:
            return number
    print(sorted(await asyncio.gather(barrier.wait(), enter())), barrier)
    waiting = asyncio.create_task(barrier.wait())
    await asyncio.sleep(0)
    await barrier.abort()
    show("aborted", lambda: barrier)
    try:
        await waiting
    except asyncio.BrokenBarrierError as error:
        print(error)
    await barrier.reset()
    print(barrier)
asyncio.run(main())
""",
    "collected": """
class Queue(asyncio.Queue):
    pass
for make in asyncio.Lock, asyncio.Event, asyncio.Condition, Queue, asyncio.PriorityQueue:
    item = make()
    item.itself = item
    vars(item)
    reference = weakref.ref(item)
    del item
    gc.collect()
    print(reference())
    item = copy.copy(make())
    item.itself = item
    reference = weakref.ref(item)
    del item
    gc.collect()
    print(reference())
""",
    "subclasses": """
class Base:
    made = []
    def __init_subclass__(cls, *, name=None, **more):
        super().__init_subclass__(**more)
        Base.made.append((cls.__name__, name))
class First(Base, asyncio.Queue, name="a"):
    pass
class Second(asyncio.Queue, Base, name="b"):
    pass
class Own(asyncio.Lock):
    @property
    def __dict__(self):
        return {"own": 1}
print(Base.made)
for make in First, Second:
    queue = make()
    queue.put_nowait(1)
    show("vars", lambda: list(vars(queue)))
    vars(queue)["_maxsize"] = 1
    show("full", queue.full)
    for name, way in WAYS:
        show(name, lambda: take(way(queue)) if name != "copy" else way(queue))
show("own", lambda: vars(Own()))
show("dir", lambda: [name for name in dir(asyncio.Lock()) if name in ("_waiters", "_locked", "acquire", "__dict__")])
class Slots(asyncio.Queue):
    __slots__ = ("a", "b")
class MoreSlots(Slots):
    __slots__ = ("c",)
queue = MoreSlots()
queue.a, queue.c, queue.d = 1, 3, 4
queue.put_nowait(7)
for name, way in WAYS[1:]:
    show(name, lambda: (lambda c: (c.a, c.c, c.d, hasattr(c, "b"), take(c)))(way(queue)))
print(queue)
""",
}


def output(arguments, path):
    result = subprocess.run([sys.executable, *arguments, str(path)], capture_output=True, text=True, timeout=60)
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_classes_made_in_python(tmp_path, name):
    path = tmp_path / "program.py"
    path.write_text(HEAD + PROGRAMS[name])
    expected = output([], path)
    assert expected and "Traceback" not in expected
    assert output(["-m", "aioxide"], path) == expected


def test_pickles_of_either_are_read_by_the_other(tmp_path):
    """A pickle has asyncio's names alone."""
    write = tmp_path / "write.py"
    write.write_text(
        "import asyncio, pickle, sys\n"
        "queue = asyncio.PriorityQueue(3)\n"
        "queue.put_nowait(2)\n"
        "queue.put_nowait(1)\n"
        "for protocol in range(2, 6):\n"
        "    print(pickle.dumps([asyncio.Condition(), asyncio.Barrier(2), queue], protocol).hex())\n"
    )
    read = tmp_path / "read.py"
    read.write_text(
        "import asyncio, pickle, sys\n"
        "for line in open(sys.argv[1]):\n"
        "    condition, barrier, queue = pickle.loads(bytes.fromhex(line))\n"
        "    print(condition.locked(), barrier.parties, queue.get_nowait(), queue.get_nowait(), queue.maxsize)\n"
    )
    ways = [], ["-m", "aioxide"]
    for writer in ways:
        (tmp_path / "pickles").write_text(output(writer, write))
        for reader in ways:
            told = subprocess.run(
                [sys.executable, *reader, str(read), str(tmp_path / "pickles")],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert told.stdout == "False 2 1 2 3\n" * 4, told.stderr


def test_who_only_looks_leaves_it_native(aio, run):
    """Operations on an object whose dict nobody has are native again."""

    async def main():
        queue = aio.Queue()
        vars(queue)
        await queue.put(1)
        assert await queue.get() == 1
        lock = aio.Lock()
        assert not vars(lock)["_locked"]
        async with lock:
            pass
        return queue.get(), lock.acquire()

    made = run(main)
    assert [asyncio.iscoroutine(item) for item in made] == [True, True]
    for item in made:
        item.close()
