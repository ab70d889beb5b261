//! How objects are made, kept and freed: freelists, cycles, finalisers, weak references.

use cpython::freelist::trim;
use cpython::{Hot, Obj, Ref};

use crate::toys::{Counted, Node, Plain};
use crate::{Names, collect, python, run};

#[test]
fn a_freed_object_is_used_again() {
    python(|py| {
        let first = Plain::make(py)?;
        let address = first.as_obj().as_ptr() as usize;
        first.held.set(Some(Obj::list(py)?));
        drop(first);
        let second = Plain::make(py)?;
        assert_eq!(second.as_obj().as_ptr() as usize, address);
        assert_eq!(second.as_obj().refcount(), 1);
        assert!(second.held.is_none(), "a new object is empty");
        assert!(Ref::<Plain>::is_exact(second.as_obj()));
        Ok(())
    });
}

#[test]
fn the_freelist_takes_no_more_than_it_may() {
    python(|py| {
        trim::<Node>(py, usize::MAX);
        let before = Counted::alive();
        let class = Ref::<Node>::class(py);
        let mut made = Vec::new();
        for _ in 0..50 {
            made.push(Node::make(py)?);
        }
        assert_eq!(Counted::alive(), before + 50);
        let with_fifty = class.refcount();
        drop(made);
        assert_eq!(Counted::alive(), before);
        // Each object has a reference to its type, even one in the freelist.
        let freed = |class: &Obj| with_fifty - class.refcount();
        let (burst, kept) = (Node::FREELIST_IN_BURSTS as isize, Node::FREELIST as isize);
        assert_eq!(freed(&class), 50 - burst);
        let again = (0..burst)
            .map(|_| Node::make(py))
            .collect::<Result<Vec<_>, _>>()?;
        assert_eq!(freed(&class), 50 - burst);
        drop(again);
        assert!(trim::<Node>(py, 1), "there is more to give back");
        assert_eq!(freed(&class), 50 - burst + 1);
        assert!(!trim::<Node>(py, usize::MAX));
        assert_eq!(freed(&class), 50 - kept);
        assert!(!trim::<Node>(py, 1), "these are kept for good");
        assert_eq!(freed(&class), 50 - kept);
        Ok(())
    });
}

#[test]
fn a_cycle_is_collected() {
    python(|py| {
        let before = Counted::alive();
        let (one, two) = (Node::make(py)?, Node::make(py)?);
        one.next.set(Some(two.as_obj().clone()));
        two.next.set(Some(one.as_obj().clone()));
        drop((one, two));
        assert_eq!(Counted::alive(), before + 2);
        collect(py)?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_cycle_through_every_type_is_collected() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
def tie():
    for make in (Node, Based, Promise, Chore):
        a = make()
        hold = (lambda o, v: setattr(o, 'next' if make is Node else 'held', v))
        hold(a, a)
        # Through its own attributes, where it has any.
        b = make()
        if make is not Based or hasattr(b, '__dict__'):
            b.attribute = b
        # Through a class of Python's.
        c = type('Sub', (make,), {})()
        c.itself = [c]
    chore = Chore()
    chore.own = chore
    chore.held = chore
    steps = Steps([])
    steps.sent.append(steps)
tie()
del tie
gc.collect()
assert gc.collect() == 0
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn what_is_not_tracked_is_collected_through_its_holder() {
    python(|py| {
        let plain = Plain::make(py)?;
        let names = Names::new(py)?;
        names.set("plain", plain.as_obj())?;
        names.run("assert gc.is_tracked(plain)\nassert gc.get_referents(plain)[-1] is Plain")?;
        plain.held.set(Some(plain.as_obj().clone()));
        names.run("assert plain in gc.get_referents(plain)")?;
        plain.track();
        plain.held.set(None);
        Ok(())
    });
}

#[test]
fn a_finaliser_sees_the_object_whole() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
seen = []
node = Node(None, 'value')
node.on_end = lambda node: seen.append((node.value, node.next, repr(node)))
del node
assert seen == [('value', None, \"Node('value')\")], seen
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_finaliser_leaves_an_exception_as_it_is() {
    python(|py| {
        run(
            py,
            "
def end(node):
    try:
        raise KeyError('within')
    except KeyError:
        pass
def fail():
    node = Node()
    node.on_end = end
    raise ValueError('outside')
try:
    fail()
except ValueError as error:
    assert error.args == ('outside',)
    assert error.__context__ is None
else:
    assert False
",
        )
    });
}

#[test]
fn a_finaliser_may_bring_the_object_back() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
back = []
node = Node(None, [1])
node.on_end = back.append
reference = weakref.ref(node)
del node
assert len(back) == 1 and back[0].value == [1]
assert reference() is back[0], 'it has never gone'
assert gc.is_finalized(back[0])
# It runs once for each object.
back[0].on_end = lambda node: 1 / 0
back.clear()
assert reference() is None
# An object made where that one was is a new one.
for _ in range(8):
    nodes = [Node() for _ in range(8)]
    assert not any(map(gc.is_finalized, nodes))
    del nodes
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn the_collector_runs_finalisers_before_it_clears() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
seen = []
one, two = Node(None, 1), Node(None, 2)
one.next, two.next = two, one
for node in one, two:
    node.on_end = lambda node: seen.append((node.value, node.next.value))
del one, two, node
gc.collect()
assert sorted(seen) == [(1, 2), (2, 1)], seen

# One of them comes back, and with it all that it reaches.
back = []
one, two = Node(None, 1), Node(None, 2)
one.next, two.next = two, one
one.on_end = back.append
del one, two
gc.collect()
assert back[0].next.next is back[0]
assert back[0].next.value == 2
back.clear()
gc.collect()
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn weak_references_end_with_the_object() {
    python(|py| {
        run(
            py,
            "
told = []
node = Node()
one = weakref.ref(node, lambda reference: told.append(reference()))
two = weakref.ref(node, lambda reference: 1 / 0)
proxy = weakref.proxy(node)
assert one() is node and proxy.me() is node
with Reports() as reports:
    del node
assert told == [None] and [report[0] for report in reports] == [ZeroDivisionError]
assert one() is None and two() is None
try:
    proxy.me()
except ReferenceError:
    pass
else:
    assert False

# A new object in the same memory has none of them.
node = Node()
assert weakref.getweakrefcount(node) == 0
del node

# One in a collected cycle is told too, if the reference itself is not in it.
node = Node()
node.next = node
reference = weakref.ref(node, lambda reference: told.append('cycle'))
del node
gc.collect()
assert told[-1] == 'cycle' and reference() is None

# A finaliser still finds the object by them.
node = Node()
reference = weakref.ref(node)
node.on_end = lambda node: told.append(reference() is node)
del node
assert told[-1] is True
",
        )
    });
}

#[test]
fn what_goes_may_come_back_to_who_let_it_go() {
    python(|py| {
        run(
            py,
            "
class Meddler:
    def __init__(self, node):
        self.node = node
    def __del__(self):
        log.append(self.node.value)
        self.node.value = 'meddled'
log = []
node = Node()
node.value = Meddler(node)
node.value = 'new'
# The new value was in place before the old one went, which then put its own.
assert log == ['new'] and node.value == 'meddled'

# The same while a cycle is cleared.
node.value = Meddler(node)
node.next = node
del node
gc.collect()
assert len(log) == 2
",
        )
    });
}

#[test]
fn objects_over_a_base_are_freed_with_what_the_base_holds() {
    python(|py| {
        let before = Counted::alive();
        let names = Names::new(py)?;
        names.run(
            "
class Value:
    pass
def fill():
    values = [Value() for _ in range(3)]
    references.extend(map(weakref.ref, values))
    based = Based()
    based.held = values[0]
    assert based.me() is based
    promise = Promise()
    promise.held = values[1]
    promise.attribute = values[2]
references = []
for _ in range(5):
    fill()
assert not any(reference() for reference in references)
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn an_object_that_has_left_nothing_behind_is_unshared() {
    python(|py| {
        let names = Names::new(py)?;
        let node = Node::make(py)?;
        assert!(node.is_unshared());
        let other = node.clone();
        assert!(!node.is_unshared());
        drop(other);
        names.set("node", node.as_obj())?;
        names.run("reference = weakref.ref(node)\ndel node")?;
        assert!(!node.is_unshared(), "somebody refers to it weakly");
        names.run("del reference")?;
        assert!(node.is_unshared());
        names.set("node", node.as_obj())?;
        names.run("node.attribute = 1\ndel node")?;
        assert!(!node.is_unshared(), "it has an attribute");
        Ok(())
    });
}
