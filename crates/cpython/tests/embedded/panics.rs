//! Panics where CPython calls us: they become exceptions or reports, and never end the process.

use std::process::Command;

use cpython::{Raised, Ref, error};

use crate::toys::{Counted, Fragile};
use crate::{Names, python, run};

#[test]
fn where_an_exception_can_be_raised_it_is() {
    python(|py| {
        run(
            py,
            "
import operator
fragile = Fragile()
def iterate(fragile):
    async def over():
        async for each in fragile: pass
    over().send(None)
def wait(fragile):
    async def over(): await fragile
    over().send(None)
def setdict(fragile): fragile.__dict__ = {}
places = {
    'repr': repr, 'str': str, 'iter': iter, 'aiter': iterate, 'await': wait,
    'setattr': lambda fragile: setattr(fragile, 'held', 1),
    'getdict': operator.attrgetter('__dict__'), 'setdict': setdict,
}
for place, call in places.items():
    for _ in range(2):
        fragile.breaks_in = place
        try:
            call(fragile)
        except RuntimeError as error:
            assert str(error) == f'aioxide panicked: on purpose, in {place}', error
        else:
            assert False, place
        assert fragile.breaks_in is None and fragile.held is None and fragile.me() is fragile
try:
    Fragile('init')
except RuntimeError as error:
    assert str(error) == 'aioxide panicked: on purpose, in init', error
else:
    assert False
",
        )
    });
}

#[test]
fn in_a_finaliser_it_is_reported() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
with Reports() as reports:
    node = Node()
    node.breaks_at_end = True
    del node
    one = Node()
    one.next, one.breaks_at_end = one, True
    del one
    gc.collect()
texts = [text for _, text, _ in reports]
assert texts == ['aioxide panicked: on purpose, at the end'] * 2, reports
del reports
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn while_the_collector_clears_it_is_reported() {
    python(|py| {
        run(
            py,
            "
with Reports() as reports:
    fragile = Fragile('clear')
    fragile.held = fragile
    reference = weakref.ref(fragile)
    del fragile
    gc.collect()
assert [report[1] for report in reports] == ['aioxide panicked: on purpose, in clear'], reports
# What could not be cleared is garbage again, for the next time.
reports.clear()
gc.collect()
assert reference() is None
",
        )
    });
}

#[test]
fn an_object_that_panics_while_it_is_whole_lives_on() {
    python(|py| {
        run(
            py,
            "
class Value: pass
for make in Fragile, type('Sub', (Fragile,), {}):
    for place in ('leave', 'asked') if make is Fragile else ('leave',):
        with Reports() as reports:
            fragile = make(place)
            value = fragile.held = Value()
            value, reference = weakref.ref(value), weakref.ref(fragile)
            del fragile
        text = f'aioxide panicked: on purpose, in {place}'
        assert reports == [(RuntimeError, text, 'Fragile')], reports
        gc.collect()
        assert value() is not None
        if make is Fragile:
            # Whoever refers to it weakly still finds it.
            for _ in range(3):
                assert reference().held is value() and reference().me() is reference()
            reference().held = None
            assert value() is None
            # It does not go a second time, nor is its memory another object's.
            others = [Fragile() for _ in range(8)]
            assert all(each is not reference() for each in others)
            del others
",
        )
    });
}

#[test]
fn the_memory_of_one_that_panics_later_is_not_used_again() {
    python(|py| {
        run(
            py,
            "
class Value: pass
for make in Fragile, type('Sub', (Fragile,), {'__slots__': ('more',)}):
    with Reports() as reports:
        fragile = make('drop')
        value = fragile.held = Value()
        value, reference, address = weakref.ref(value), weakref.ref(fragile), id(fragile)
        del fragile
    assert reports == [(RuntimeError, 'aioxide panicked: on purpose, in drop', 'Fragile')], reports
    # What it held is released.
    assert value() is None and reference() is None
    gc.collect()
    others = [make() for _ in range(50)]
    assert address not in map(id, others)
    del others
",
        )
    });
}

#[test]
fn an_exception_that_goes_on_is_kept() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("reports = Reports()\nreports.__enter__()")?;
        for place in ["asked", "leave", "drop"] {
            let fragile = Ref::new(py, Fragile::default())?;
            fragile.place.set(Some(place));
            let raised = Raised::value_error(py, "outside");
            drop(fragile);
            let exception = raised.take(py);
            assert_eq!(exception.repr()?.to_string()?, "ValueError('outside')");
            assert!(error::context(&exception).is_none());
        }
        names.run("reports.__exit__()\nassert len(reports) == 3, reports")
    });
}

/// Objects that an object holds whose traversal panics stay alive, and the rest of a collection is
/// right.
const TRAVERSED: &str = "
class Value: pass
text = 'aioxide panicked: on purpose, in traverse'
for _ in range(2):
    fragile, value = Fragile('traverse'), Value()
    fragile.held, value.fragile, value.itself = value, fragile, value
    fragile.attribute = other = Value()
    other.fragile = fragile
    plain = Value()
    plain.itself = plain
    all = [weakref.ref(each) for each in (fragile, value, other)]
    apart = weakref.ref(plain)
    with Reports() as reports:
        del fragile, value, other, plain
        for _ in range(3):
            gc.collect()
            assert apart() is None
            assert all[0]().held is all[1]() and all[0]().attribute is all[2]()
            assert all[1]().itself is all[1]()
        # Pending calls are made when Python code runs on.
        for _ in range(3): pass
    assert 1 <= len(reports) <= 3, reports
    assert set(reports) == {(RuntimeError, text, 'Fragile')}, reports
    # As soon as it can be looked at again, it is collected.
    all[0]().breaks_in = None
    gc.collect()
    assert not any(each() for each in all)
print('all was reported')
";

/// The environment variable of a process of its own. It is needed because the thread that has
/// started the interpreter makes pending calls.
const MARK: &str = "AIOXIDE_TEST_PANICS";

#[test]
fn what_the_collector_cannot_look_at_stays_alive_and_is_reported_later() {
    if std::env::var_os(MARK).is_some() {
        return python(|py| run(py, TRAVERSED));
    }
    let own = std::env::current_exe().expect("a path");
    let output = Command::new(own)
        .args(["--exact", "--nocapture"])
        .arg("panics::what_the_collector_cannot_look_at_stays_alive_and_is_reported_later")
        .env(MARK, "1")
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("all was reported"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
