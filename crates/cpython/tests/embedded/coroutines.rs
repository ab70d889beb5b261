//! Hot types as coroutines, driven by the interpreter and by [`cpython::coro`], and coroutines of
//! Python's driven by us.

use cpython::coro::{self, Step};
use cpython::{Obj, Python, Raised};

use crate::{Names, python, run};

/// The outcome of a step, as a text.
fn step_text(py: Python<'_>, step: Step) -> Result<String, Raised> {
    Ok(match step {
        Step::Yielded(object) => format!("yielded {}", object.repr()?.to_string()?),
        Step::Returned(object) => format!("returned {}", object.repr()?.to_string()?),
        Step::Raised(raised) => format!("raised {}", raised.take(py).repr()?.to_string()?),
    })
}

#[test]
fn await_drives_a_native_coroutine() {
    python(|py| {
        run(
            py,
            "
async def main(steps):
    return 'returned', await steps
def drive(coroutine, values=()):
    yielded, values = [], iter(values)
    try:
        yielded.append(coroutine.send(None))
        while True:
            yielded.append(coroutine.send(next(values, None)))
    except StopIteration as end:
        return yielded, end.value
assert drive(main(Steps([1, 2, 3]))) == ([1, 2, 3], ('returned', []))
assert drive(main(Steps([]))) == ([], ('returned', []))
assert drive(main(Steps([None, None]))) == ([None, None], ('returned', []))
assert drive(main(Steps([1, 2], 'value'))) == ([1, 2], ('returned', 'value'))
# Every kind of value is returned as it is.
for value in (None, (), (1, 2), [], ValueError('value'), StopIteration(3), ValueError, 0, ''):
    yielded, (_, returned) = drive(main(Steps([1], value)))
    assert returned is value, value
# What comes from `send` reaches it where the interpreter drives by `am_send`.
yielded, (_, sent) = drive(main(Steps([1, 2, 3])), ['a', 'b'])
assert yielded == [1, 2, 3] and sent in (['a', 'b'], []), sent
# Within a generator and one another.
import types
@types.coroutine
def generator(steps):
    return (yield from steps.__await__())
async def outer():
    return [await generator(Steps([1], 'a')), await main(Steps([2], 'b'))]
assert drive(outer()) == ([1, 2], ['a', ('returned', 'b')])
",
        )
    });
}

#[test]
fn exceptions_go_in_and_come_out() {
    python(|py| {
        run(
            py,
            "
async def main(steps):
    try:
        return await steps
    except ValueError as error:
        return 'caught', error
def end(call):
    try:
        return call()
    except StopIteration as stop:
        return stop.value
error = ValueError('in')
coroutine = main(Steps([1, 2]))
assert coroutine.send(None) == 1
assert end(lambda: coroutine.throw(error)) == ('caught', error)
assert error.__traceback__ is not None
# It may go on instead.
coroutine = main(Steps([1, 2]))
coroutine.send(None)
assert coroutine.throw(KeyError()) == 2
# Out of a step.
def fails():
    yield 1
    raise ValueError('out')
coroutine = main(Steps(fails()))
assert coroutine.send(None) == 1
kind, error = end(lambda: coroutine.send(None))
assert kind == 'caught' and error.args == ('out',)
# A StopIteration does not end who awaits.
coroutine = main(Steps([1]))
coroutine.send(None)
try:
    coroutine.throw(StopIteration(1))
except RuntimeError as error:
    assert isinstance(error.__cause__, StopIteration), error.__cause__
else:
    assert False
# Closing.
steps = Steps([1])
coroutine = main(steps)
coroutine.send(None)
coroutine.close()
assert steps.closed
",
        )
    });
}

#[test]
fn a_returned_value_is_an_ordinary_stop_iteration() {
    python(|py| {
        run(
            py,
            "
def stopped(value):
    try:
        next(Steps([], value))
    except StopIteration as stop:
        return stop
class Value: pass
value = Value()
stop = stopped(value)
assert stop.value is value and type(stop).__name__ == 'StopIteration'
assert isinstance(stop, StopIteration) and stop.__context__ is None
# One that is kept keeps its value, whatever is returned meanwhile.
kept = [stopped(Value()) for _ in range(5)]
assert len({id(stop) for stop in kept}) == 5
assert len({id(stop.value) for stop in kept}) == 5
# What a program has added to one is not found at the next.
for change in (
    lambda stop: setattr(stop, 'attribute', 1),
    lambda stop: stop.add_note('note'),
    lambda stop: setattr(stop, '__cause__', KeyError()),
    lambda stop: setattr(stop, '__suppress_context__', True),
    lambda stop: setattr(stop, 'args', (1, 2)),
    lambda stop: setattr(stop, 'value', 'changed'),
    lambda stop: setattr(stop, '__traceback__', stop.__traceback__),
    lambda stop: stop.__setstate__({'state': 1}),
):
    one = stopped(Value())
    change(one)
    del one
    one = stopped(value)
    assert one.value is value and one.__cause__ is None, one
    assert not hasattr(one, '__notes__') and not hasattr(one, 'attribute')
    assert one.__suppress_context__ is False and not hasattr(one, 'state')
    assert one.args in ((), (value,)), one.args
    one.__traceback__ = None
    del one
# The value is released with the exception, also one that comes back by its end.
class Last:
    def __del__(self):
        log.append(stopped('again').value)
log = []
stopped(Last())
assert log == ['again']
reference = weakref.ref(value)
del value, stop
gc.collect()
assert reference() is None
# A cycle through one is collected.
holder = Value()
holder.stop = stopped(holder)
reference = weakref.ref(holder)
del holder
gc.collect()
assert reference() is None
",
        )
    });
}

#[test]
fn await_takes_values_out_without_leaving_any() {
    python(|py| {
        run(
            py,
            "
class Value: pass
async def one(value):
    return await Steps([], value)
def drive(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
for _ in range(100):
    value = Value()
    reference = weakref.ref(value)
    assert drive(one(value)) is value
    del value
    assert reference() is None
",
        )
    });
}

#[test]
fn we_drive_coroutines_of_any_kind() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
async def native(): return await Steps([1], 'end')
def generator():
    got = yield 1
    return got or 'end'
class ByHand:
    def __init__(self): self.left = [1]
    def __iter__(self): return self
    def __next__(self):
        if self.left: return self.left.pop()
        raise StopIteration('end')
def plain():
    yield 1
makers = dict(native=native, steps=lambda: Steps([1], 'end'), generator=generator, hand=ByHand)
",
        )?;
        for kind in ["native", "steps", "generator", "hand"] {
            names.run(&format!("coroutine = makers['{kind}']()"))?;
            let coroutine = names.get("coroutine")?;
            assert_eq!(
                step_text(py, coro::send_none(&coroutine))?,
                "yielded 1",
                "{kind}"
            );
            let none = Obj::none(py);
            let end = step_text(py, coro::send(&coroutine, &none))?;
            assert_eq!(end, "returned 'end'", "{kind}");
        }
        let wrong = step_text(py, coro::send_none(&Obj::list(py)?))?;
        assert!(wrong.starts_with("raised "), "{wrong}");
        Ok(())
    });
}

#[test]
fn we_throw_into_coroutines_and_close_them() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
log = []
def generator():
    try:
        yield 1
    except KeyError:
        log.append('key')
        yield 2
    except ValueError:
        return 'end'
    finally:
        log.append('finally')
error, key = ValueError('in'), KeyError('key')
one, two, three, steps = generator(), generator(), generator(), Steps([1, 2])
for each in one, two, three: next(each)
class Odd:
    @property
    def close(self): raise KeyError('close')
odd, without = Odd(), iter([])
",
        )?;
        let throw = |name: &str, error: &str| -> Result<Option<String>, Raised> {
            coro::throw(&names.get(name)?, &[names.get(error)?])
                .map(|step| step_text(py, step))
                .transpose()
        };
        assert_eq!(throw("one", "error")?.as_deref(), Some("returned 'end'"));
        assert_eq!(throw("two", "key")?.as_deref(), Some("yielded 2"));
        assert_eq!(
            throw("steps", "error")?.as_deref(),
            Some("raised ValueError('in')")
        );
        assert_eq!(throw("without", "error")?, None);
        coro::close(&names.get("three")?)?;
        coro::close(&names.get("two")?)?;
        coro::close(&names.get("without")?)?;
        names.run(
            "
assert log.count('finally') == 3, log
reports = Reports()
reports.__enter__()
",
        )?;
        let closed = coro::close(&names.get("odd")?);
        names.run("reports.__exit__()\nassert [report[:2] for report in reports] == [(KeyError, \"'close'\")]")?;
        closed
    });
}

#[test]
fn what_can_be_awaited_is_known() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
import types
async def native(): pass
@types.coroutine
def generator(): yield
def plain(): yield
class Awaits:
    def __init__(self, what): self.what = what
    def __await__(self): return self.what
class Overrides(Steps):
    def __await__(self): return iter([])
coroutine, made, steps, other = native(), generator(), Steps([]), Awaits(iter([1]))
listed, bare, wrong, looped = [], plain(), Awaits(3), Awaits(coroutine)
circled = Awaits(generator())
overrides = Overrides([])
",
        )?;
        for name in ["coroutine", "made", "steps"] {
            let object = names.get(name)?;
            assert!(coro::await_iterator(&object)?.is(&object), "{name}");
        }
        drop(coro::await_iterator(&names.get("other")?)?);
        for name in ["listed", "bare", "wrong", "looped", "circled"] {
            let raised = coro::await_iterator(&names.get(name)?)
                .map(drop)
                .expect_err(name);
            names.set("error", &raised.take(py))?;
            names.run(&format!(
                "
async def main(): await {name}
try:
    main().send(None)
except TypeError as wanted:
    # The interpreter's text has more about objects that look like coroutines.
    assert type(error) is TypeError and str(error) in str(wanted), (error, wanted)
else:
    assert False
"
            ))?;
        }
        assert!(coro::awaits_itself(&names.get("steps")?));
        assert!(!coro::awaits_itself(&names.get("overrides")?));
        assert!(!coro::awaits_itself(&names.get("coroutine")?));
        names.run("coroutine.close()\ndel error")
    });
}

#[test]
fn a_coroutine_that_stands_for_another_shows_its_first_line() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("async def shown(a, *args, b=1, **named):\n    pass\ncode = shown.__code__")?;
        let standing = coro::standing(&names.get("code")?)?;
        names.set("standing", &standing)?;
        names.run(
            "
assert standing.cr_frame.f_lineno == code.co_firstlineno
assert standing.cr_code.co_name == 'shown'
standing.close()
",
        )
    });
}
