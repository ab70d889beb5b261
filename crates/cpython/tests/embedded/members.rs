//! Values that lie over the slots of a class made in Python.

use cpython::build::basic_size;
use cpython::members::fit;
use cpython::{Obj, Ref};

use crate::toys::{Lean, LeanChild, slotted};
use crate::{Names, python, run};

/// The words of an object's header.
const HEADER: usize = 2 * size_of::<usize>();
const WORD: usize = size_of::<usize>();

#[test]
fn they_take_no_room() {
    python(|py| {
        assert_eq!(basic_size(&Ref::<Lean>::class(py)), HEADER + 2 * WORD);
        assert_eq!(basic_size(&Ref::<LeanChild>::class(py)), HEADER + 4 * WORD);
        Ok(())
    });
}

#[test]
fn the_bases_descriptors_see_the_fields() {
    python(|py| {
        run(
            py,
            "
base, child_base = Lean.__base__, LeanChild.__base__
for lean in (Lean(), LeanChild(), type('Sub', (Lean,), {})(), type('Sub', (LeanChild,), {})()):
    assert lean.first is lean.second is None
    for name in ('first', 'second', 'third')[:3 if isinstance(lean, LeanChild) else 2]:
        slot = vars(base).get(name) or vars(child_base)[name]
        thing = [name]
        setattr(lean, name, thing)
        assert slot.__get__(lean) is thing
        other = [name]
        slot.__set__(lean, other)
        assert getattr(lean, name) is other
        assert sys.getrefcount(thing) == 2 and sys.getrefcount(other) == 3
        slot.__delete__(lean)
        assert getattr(lean, name) is None and sys.getrefcount(other) == 2
    assert getattr(lean, 'is_whole', True)
",
        )
    });
}

#[test]
fn each_reference_is_released_once() {
    python(|py| {
        run(
            py,
            "
class Sub(Lean):
    __slots__ = ('more',)
class SubChild(LeanChild):
    pass
class Both(Lean, LeanChild.__base__):
    __slots__ = ()
thing = object()
count = sys.getrefcount(thing)
for kind in (Lean, LeanChild, Sub, SubChild, Both):
    for _ in range(5):
        lean = kind()
        lean.first = lean.second = thing
        if hasattr(kind, 'third'):
            lean.third = thing
        del lean
    assert sys.getrefcount(thing) == count, kind
    for name in ('first', 'second', 'third'):
        if hasattr(kind, name):
            lean = kind()
            lean.second = thing
            setattr(lean, name, [lean, thing])
            del lean
            assert gc.collect() > 0, kind
            assert sys.getrefcount(thing) == count, kind
    # each reference is shown once
    lean = kind()
    lean.first = thing
    assert gc.get_referents(lean).count(thing) == 1, kind
    del lean
    assert sys.getrefcount(thing) == count, kind
",
        )
    });
}

#[test]
fn a_class_of_another_layout_does_not_fit() {
    python(|py| {
        let base = slotted(py, &[], &["first", "second"])?;
        let moved = slotted(py, &[], &["a", "first", "second"])?;
        let longer = slotted(py, std::slice::from_ref(&base), &["z"])?;
        let parted = slotted(py, &[], &["first", "more", "second"])?;
        let missing = slotted(py, &[], &["first"])?;
        let again = slotted(py, std::slice::from_ref(&base), &["second"])?;
        let names = Names::new(py)?;
        names.set("base", &base)?;
        names.run(
            "
class Properties(base):
    __slots__ = ()
    second = property(lambda self: None)
class Foreign:
    __slots__ = ('x', 'y')
    first, second = base.first, base.second
",
        )?;
        assert!(fit::<Lean>(&[&base]) && fit::<Lean>(&[&moved]));
        assert!(fit::<Lean>(&[&base, &longer]));
        assert!(!fit::<Lean>(&[&base, &moved]));
        let others = [parted, missing, again, names.get("Properties")?];
        for other in others
            .iter()
            .chain([&names.get("Foreign")?, &Obj::none(py)])
        {
            assert!(!fit::<Lean>(&[other]));
        }
        Ok(())
    });
}
