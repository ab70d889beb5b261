//! Classes of Python's that derive from hot types.

use cpython::{Obj, Ref};

use crate::toys::{Chore, Counted, Node, Promise};
use crate::{Names, python, run};

#[test]
fn a_subclass_overrides_and_adds() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
class Sub(Node):
    def echo(self, argument):
        return 'sub', super().echo(argument)
    def __init__(self, extra, *rest, **named):
        super().__init__(*rest, **named)
        self.extra = extra
    def __repr__(self):
        return 'Sub of ' + super().__repr__()
    @property
    def value(self):
        return Node.value.__get__(self)
    @value.setter
    def value(self, value):
        Node.value.__set__(self, ('set', value))
sub = Sub('extra', None, 1)
assert isinstance(sub, Node) and type(sub.me()) is Sub
assert sub.echo(2) == ('sub', 2) and sub.extra == 'extra'
assert repr(sub) == 'Sub of Node(1)'
sub.value = 3
assert sub.value == ('set', 3)
assert sub.__dict__ == {'extra': 'extra'}
assert Sub.made_by(1) == (Sub, 1)
# Methods refuse what is no node.
for wrong in (1, Plain, object()):
    try:
        Node.me(wrong)
    except TypeError:
        pass
    else:
        assert False, wrong
del sub, Sub
gc.collect()
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_subclass_may_have_slots_of_its_own() {
    python(|py| {
        let before = Counted::alive();
        run(
            py,
            "
class Slotted(Node):
    __slots__ = ('left', 'right')
class Further(Slotted):
    __slots__ = ('deep',)
    def __del__(self):
        ended.append(self.deep)
ended = []
for _ in range(10):
    further = Further(None, 1)
    further.left, further.right, further.deep = [1], [2], [3]
    further.attribute = further.left
    reference = weakref.ref(further)
    assert further.value == 1
    del further
    assert reference() is None
assert ended == [[3]] * 10
further = Further()
further.left, further.deep = further, 4
del further
gc.collect()
assert ended[-1] == 4
del Slotted, Further
gc.collect()
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn finalisers_of_both_run() {
    python(|py| {
        run(
            py,
            "
class Sub(Node):
    def __del__(self):
        log.append('sub')
        super().__del__()
log = []
sub = Sub()
sub.on_end = lambda node: log.append(type(node).__name__)
try:
    del sub
finally:
    pass
assert log == ['sub', 'Sub'], log

class Quiet(Node):
    pass
quiet = Quiet()
quiet.on_end = log.append
reference = weakref.ref(quiet)
del quiet
assert log[-1] is reference(), 'it was brought back'
log.clear()
assert reference() is None
",
        )
    });
}

#[test]
fn the_freelist_takes_no_object_of_a_subclass() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("class Sub(Node):\n    __slots__ = ('more',)")?;
        for _ in 0..20 {
            names.run("sub = Sub()\nsub.more = 1\ndel sub\nnode = Node()\nassert type(node) is Node\ndel node")?;
        }
        let node = Node::make(py)?;
        assert!(Ref::<Node>::is_exact(node.as_obj()));
        names.run("sub = Sub()")?;
        let sub = names.get("sub")?;
        assert!(!Ref::<Node>::is_exact(&sub) && Ref::<Node>::is(&sub));
        assert!(Ref::<Node>::of_bare(&sub).is_none() && Ref::<Node>::of_exact(&sub).is_none());
        Ok(())
    });
}

#[test]
fn a_type_may_refuse_subclasses_and_objects() {
    python(|py| {
        run(
            py,
            "
for wrong, text in (
    (lambda: type('Sub', (Plain,), {}), 'not an acceptable base type'),
    (lambda: Plain(), \"cannot create 'toys.Plain' instances\"),
):
    try:
        wrong()
    except TypeError as error:
        assert text in str(error), error
    else:
        assert False
assert Node.__name__ == 'Node' and Node.__module__ == 'toys'
assert Node.__doc__ == 'A node of a chain.'
",
        )
    });
}

#[test]
fn a_class_left_out_passes_for_another_type() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("class Out(Promise): pass\nclass Further(Out): pass\nclass In(Promise): pass")?;
        names.run("out, further, inside = Out(), Further(), In()")?;
        let is_one = |name: &str| names.get(name).map(|object| Ref::<Promise>::is(&object));
        assert!(is_one("out")? && is_one("further")? && is_one("inside")?);
        Ref::<Promise>::leave_out(&names.get("Out")?)?;
        assert!(!is_one("out")? && !is_one("further")? && is_one("inside")?);
        // The class's methods still get them.
        names.run("assert out.me() is out")?;
        let wrong = Ref::<Promise>::leave_out(&Obj::list(py)?).expect_err("no class");
        assert!(
            wrong
                .take(py)
                .is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyTypeError>(py))
        );
        Ok(())
    });
}

#[test]
fn a_child_is_its_parent_and_both_bases() {
    python(|py| {
        let before = Counted::alive();
        let names = Names::new(py)?;
        names.run(
            "
import _asyncio
assert issubclass(Chore, Promise) and issubclass(Chore, _asyncio.Task)
assert issubclass(Promise, _asyncio.Future) and Chore.__mro__[1] is Promise
chore, promise = Chore(), Promise()
a, b = object(), object()
chore.own, chore.held, promise.held = a, b, b
assert chore.own is a and chore.held is b and chore.of_parent is b
assert chore.keeps(a) and chore.keeps(b) and not chore.keeps(None)
assert chore.me() is chore
class Sub(Chore):
    __slots__ = 'more',
sub = Sub()
sub.own, sub.held, sub.more, sub.other = 1, 2, 3, 4
assert (sub.own, sub.held, sub.of_parent, sub.more, sub.other) == (1, 2, 2, 3, 4)
",
        )?;
        let chore = names.get("chore")?;
        let promise = Ref::<Promise>::of(&chore).expect("a chore is a promise");
        assert!(promise.held.holds(&names.get("b")?));
        assert!(!Ref::<Promise>::is_exact(&chore));
        let sub = names.get("sub")?;
        let sub = Ref::<Chore>::of(&sub).expect("a subclass");
        assert_eq!(
            sub.parent().held.get().map(|two| two.small_int()),
            Some(Some(2))
        );
        let made = Ref::<Chore>::with_parent(py, Promise::default, Chore::default)?;
        made.own.set(Some(made.as_obj().clone()));
        names.set("made", made.as_obj())?;
        drop((made, chore));
        drop(names);
        crate::collect(py)?;
        assert_eq!(
            Counted::alive(),
            before + 1,
            "the subclass's object is held here"
        );
        Ok(())
    });
    python(|py| {
        crate::collect(py)?;
        assert_eq!(Counted::alive(), 0);
        Ok(())
    });
}
