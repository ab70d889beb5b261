"""install() and uninstall(): whole, reversible, harmless to what was there before."""

import asyncio
import sys
import types
import warnings
from asyncio import Future as EarlyFuture
from asyncio import SelectorEventLoop as EarlyLoop
from asyncio import Task as EarlyTask
from asyncio import sleep as early_sleep

import _asyncio
import pytest

import aioxide
from aioxide import _aioxide
from aioxide._ways_in import install

NAMES = [name for name in install._NAMES if hasattr(asyncio.tasks, name) or name == "Future"]


def state():
    """Every attribute of asyncio's modules and their classes."""
    found = {}
    for owner in install._owners():
        for name, value in vars(owner).items():
            found[id(owner), name] = value
    return found


def differences(before, after):
    return {key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}


@pytest.fixture
def installed():
    aioxide.install()
    yield
    aioxide.uninstall()


@pytest.fixture
def module():
    """A module that counts as one of asyncio's."""
    module = types.ModuleType("asyncio._of_a_test")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_every_name_is_replaced(installed):
    for name in NAMES:
        ours = getattr(_aioxide, name)
        owner = asyncio.futures if name == "Future" else asyncio.tasks
        assert getattr(owner, name) is ours, name
        if hasattr(_asyncio, name):
            assert getattr(_asyncio, name) is ours, name
    assert asyncio.Task is asyncio.tasks._CTask is aioxide.Task
    assert asyncio.Future is asyncio.futures._CFuture is aioxide.Future
    assert asyncio.sleep is asyncio.streams.sleep is aioxide.sleep
    if hasattr(asyncio.tasks, "_c_current_task"):
        assert asyncio.tasks._c_current_task is aioxide.current_task
    assert asyncio.SelectorEventLoop is asyncio.unix_events.SelectorEventLoop is aioxide.Loop
    if sys.version_info >= (3, 13):
        assert asyncio.EventLoop is aioxide.Loop


def test_nothing_of_asyncios_is_left_behind():
    originals = [getattr(_asyncio, name, None) for name in NAMES]
    originals += [getattr(asyncio.tasks, name, None) for name in NAMES]
    originals = {id(value) for value in originals if value is not None} | {id(EarlyLoop)}
    aioxide.install()
    try:
        left = [
            (owner.__name__, name)
            for owner in install._owners()
            for name, value in vars(owner).items()
            if id(value) in originals and not name.startswith(("_Py", "_py_"))
        ]
    finally:
        aioxide.uninstall()
    assert left == []


def test_the_pure_python_variants_stay(installed):
    assert asyncio.futures._PyFuture.__module__ == "asyncio.futures"
    assert asyncio.tasks._PyTask.__module__ == "asyncio.tasks"
    assert isinstance(asyncio.tasks._py_enter_task, types.FunctionType)


def test_uninstall_restores_the_last_attribute():
    before = state()
    aioxide.install()
    assert differences(before, state())
    aioxide.uninstall()
    assert differences(before, state()) == set()


def test_a_second_time_changes_nothing():
    before = state()
    aioxide.install()
    once = state()
    aioxide.install()
    assert differences(once, state()) == set()
    aioxide.uninstall()
    aioxide.uninstall()
    assert differences(before, state()) == set()


def test_an_error_midway_undoes_what_was_done(module, monkeypatch):
    module.Task = asyncio.Task
    before = state()
    apply = install._Change.apply

    def fail_at_the_module(change):
        if change.owner is module:
            raise MemoryError
        apply(change)

    monkeypatch.setattr(install._Change, "apply", fail_at_the_module)
    with pytest.raises(MemoryError):
        aioxide.install()
    assert differences(before, state()) == set()
    monkeypatch.undo()
    aioxide.install()
    assert module.Task is aioxide.Task
    aioxide.uninstall()
    assert differences(before, state()) == set()


def test_a_module_of_asyncio_imported_in_between_is_restored(module):
    theirs = asyncio.Task
    aioxide.install()
    module.Task = asyncio.Task
    aioxide.uninstall()
    assert module.Task is theirs is asyncio.Task


def test_what_others_replaced_in_between_stays(monkeypatch):
    aioxide.install()
    stand_in = object()
    monkeypatch.setattr(asyncio.locks, "futures_of_a_test", stand_in, raising=False)
    asyncio.tasks.sleep = stand_in
    aioxide.uninstall()
    try:
        assert asyncio.tasks.sleep is stand_in and asyncio.sleep is early_sleep
    finally:
        asyncio.tasks.sleep = early_sleep


def test_what_others_replaced_before_stays():
    theirs = asyncio.tasks.Task
    asyncio.tasks.Task = asyncio.tasks._PyTask
    try:
        aioxide.install()
        assert asyncio.tasks.Task is asyncio.tasks._PyTask and asyncio.Task is aioxide.Task
        aioxide.uninstall()
        assert asyncio.tasks.Task is asyncio.tasks._PyTask
    finally:
        asyncio.tasks.Task = theirs


def test_the_ways_to_make_a_loop_give_ours(installed):
    async def where():
        return type(asyncio.get_running_loop())

    assert asyncio.run(where()) is aioxide.Loop
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(where()) is aioxide.Loop
    for make in (asyncio.new_event_loop, asyncio.SelectorEventLoop):
        loop = make()
        loop.close()
        assert type(loop) is aioxide.Loop
    policy = asyncio.unix_events._UnixDefaultEventLoopPolicy()
    loop = policy.new_event_loop()
    loop.close()
    assert type(loop) is aioxide.Loop


def test_the_loop_alone():
    before = state()
    install.install_loop()
    assert asyncio.SelectorEventLoop is aioxide.Loop
    assert asyncio.Task is EarlyTask and asyncio.sleep is early_sleep
    aioxide.install()
    assert asyncio.Task is aioxide.Task
    aioxide.uninstall()
    assert differences(before, state()) == set()


def test_handles_and_abstract_classes_stay():
    before = asyncio.Handle, asyncio.TimerHandle, asyncio.BaseEventLoop, asyncio.AbstractEventLoop
    aioxide.install()
    after = asyncio.Handle, asyncio.TimerHandle, asyncio.BaseEventLoop, asyncio.AbstractEventLoop
    aioxide.uninstall()
    assert before == after
    assert issubclass(aioxide.Handle, asyncio.Handle)
    assert issubclass(aioxide.TimerHandle, asyncio.TimerHandle)


def test_loops_and_objects_made_before_are_still_what_they_were():
    loop = EarlyLoop()
    future = EarlyFuture(loop=loop)
    aioxide.install()
    try:
        assert isinstance(loop, asyncio.BaseEventLoop) and isinstance(
            loop, asyncio.AbstractEventLoop
        )
        assert asyncio.isfuture(future)
        loop.call_soon(future.set_result, 5)
        assert loop.run_until_complete(asyncio.wait_for(future, 60)) == 5
        loop.run_until_complete(loop.create_task(asyncio.sleep(0.001)))
    finally:
        aioxide.uninstall()
        loop.close()


def test_a_module_that_imported_early_still_works(installed):
    async def child(future):
        await early_sleep(0.001)
        future.set_result("early")
        return "child"

    async def main():
        loop = asyncio.get_running_loop()
        future = EarlyFuture(loop=loop)
        task = EarlyTask(child(future), loop=loop)
        assert not isinstance(task, aioxide.Task)
        assert task in asyncio.all_tasks() and asyncio.current_task() in asyncio.all_tasks()
        first = await asyncio.wait_for(future, 60)
        return first, await asyncio.gather(task, asyncio.sleep(0, "late"))

    assert asyncio.run(main()) == ("early", ["child", "late"])


def test_new_objects_pass_for_the_old_types(installed):
    async def main():
        task = asyncio.current_task()
        future = asyncio.get_running_loop().create_future()
        return isinstance(task, EarlyTask), isinstance(future, EarlyFuture), type(task)

    assert asyncio.run(main()) == (True, True, aioxide.Task)
    assert issubclass(aioxide.Loop, EarlyLoop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_are_ours_too(installed):
    async def child():
        return type(asyncio.current_task())

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child())
        return task.done(), await task

    assert asyncio.run(main()) == (True, aioxide.Task)


def test_sleep_still_counts_as_a_coroutine_function(installed):
    # unittest.mock makes an AsyncMock of what does.
    from unittest import mock

    with mock.patch("asyncio.sleep") as sleep:
        assert isinstance(sleep, mock.AsyncMock)


def test_a_subclass_of_asyncios_loop_made_afterwards_is_ours(installed):
    class Mine(asyncio.SelectorEventLoop):
        pass

    loop = Mine()
    loop.close()
    assert isinstance(loop, aioxide.Loop)


def _asked(name):
    """What asking asyncio for a name gives, warns of and blames."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = getattr(asyncio, name)
        except AttributeError as error:
            found = str(error)
    return found, [(str(warning.message), warning.filename) for warning in caught]


def test_names_that_asyncio_gives_on_request():
    names = ["DefaultEventLoopPolicy", "AbstractEventLoopPolicy", "WindowsSelectorEventLoopPolicy",
             "no_such_name", "__getattribute", "__all__"]
    before = [_asked(name) for name in names]
    aioxide.install()
    try:
        assert [_asked(name) for name in names] == before
        assert isinstance(asyncio, types.ModuleType) and repr(asyncio).startswith("<module 'asyncio'")
    finally:
        aioxide.uninstall()
    assert [_asked(name) for name in names] == before
    assert type(asyncio) is types.ModuleType


@pytest.mark.parametrize("setting", [True, False])
def test_a_name_on_request_can_be_replaced(installed, setting):
    name = "DefaultEventLoopPolicy"
    before = _asked(name)
    if setting:
        asyncio.DefaultEventLoopPolicy = "mine"
        assert _asked(name) == ("mine", [])
    elif sys.version_info < (3, 14):
        pytest.skip("the name is an ordinary attribute before 3.14")
    else:
        with pytest.raises(AttributeError):
            del asyncio.DefaultEventLoopPolicy
    if setting and sys.version_info < (3, 14):
        asyncio.DefaultEventLoopPolicy = before[0]
    elif setting:
        del asyncio.DefaultEventLoopPolicy
    assert _asked(name) == before


def test_asyncios_attributes_are_found_fast(installed):
    if sys.version_info[:2] != (3, 14):
        pytest.skip("only 3.14 looks up the attributes of such a module slowly")
    assert "__getattr__" not in vars(asyncio) and "__getattr__" not in vars(aioxide)


def test_a_getattr_of_the_programs_own_stays(monkeypatch):
    monkeypatch.setattr(asyncio, "__getattr__", lambda name: name.upper(), raising=False)
    aioxide.install()
    try:
        assert asyncio.surely_not_there == "SURELY_NOT_THERE"
    finally:
        aioxide.uninstall()
    assert asyncio.surely_not_there == "SURELY_NOT_THERE"
