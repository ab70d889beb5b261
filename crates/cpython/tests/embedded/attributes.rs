//! Attributes of an object's own, wherever this version keeps them: in a dict of ours, in one that
//! CPython manages, or behind the object.

use cpython::{Hot, Obj, Python, Raised, Ref};

use crate::toys::{Based, Chore, Node, Promise};
use crate::{Names, python};

/// Tries all ways of giving an object attributes, on the type that is called `name`.
fn shows_attributes<T: Hot>(py: Python<'_>, name: &str) -> Result<(), Raised> {
    let names = Names::new(py)?;
    let made = |code: &str| -> Result<Obj, Raised> {
        names.run(&format!("made = {name}()\n{code}"))?;
        let made = names.get("made")?;
        names.remove("made")?;
        Ok(made)
    };
    let has = |made: &Obj| {
        let this = Ref::<T>::of(made).expect("one of the type");
        assert_eq!(
            Ref::<T>::of_bare(made).is_none(),
            this.has_attributes(),
            "both say the same of an object of exactly the type"
        );
        this.has_attributes()
    };
    // The accelerator's classes have no `__dict__` to ask for on every version.
    names.run(&format!("shows_dict = hasattr({name}(), '__dict__')"))?;
    let shows_dict = names.get("shows_dict")?.is_true_object();
    // This repeats, since memory is used again.
    for _ in 0..4 {
        assert!(!has(&made("")?), "a new {name}");
        assert!(!has(&made(
            "made.held if hasattr(made, 'held') else made.next"
        )?));
        assert!(has(&made("made.attribute = 1")?));
        assert!(has(&made("made.one = made.two = 1\ndel made.one")?));
        made("made.attribute = 1\ndel made.attribute")?;
        assert!(has(&made("made.me = 1")?), "a method's name");
        if shows_dict {
            assert!(has(&made("made.__dict__")?));
            assert!(has(&made("made.__dict__ = {'a': 1}")?));
            assert!(has(&made("vars(made)['attribute'] = 1")?));
        }
        assert!(has(&made(
            "for n in range(100): setattr(made, f'a{n}', n)"
        )?));
        assert!(has(&made("object.__setattr__(made, 'attribute', 1)")?));
    }
    // The values are there, and are released with the object.
    names.run(&format!(
        "
class Value: pass
for count in 1, 2, 40:
    made = {name}()
    for n in range(count):
        setattr(made, f'a{{n}}', Value())
    references = [weakref.ref(getattr(made, f'a{{n}}')) for n in range(count)]
    assert all(reference() for reference in references)
    del made
    assert not any(reference() for reference in references), count
    made = {name}()
    assert not hasattr(made, 'a0')
"
    ))?;
    // The same with an object of a subclass.
    names.run(&format!(
        "class Sub({name}): pass\nsub, bare = Sub(), Sub()\nsub.attribute = 1"
    ))?;
    let sub = names.get("sub")?;
    assert!(Ref::<T>::of(&sub).expect("a subclass").has_attributes());
    assert!(Ref::<T>::of_bare(&sub).is_none());
    assert!(
        Ref::<T>::of_bare(&names.get("bare")?).is_none(),
        "not exactly the type"
    );
    Ok(())
}

#[test]
fn in_a_dict_of_ours() {
    python(|py| shows_attributes::<Node>(py, "Node"));
}

#[test]
fn where_the_accelerators_future_has_them() {
    python(|py| shows_attributes::<Promise>(py, "Promise"));
}

#[test]
fn where_the_accelerators_task_has_them() {
    python(|py| shows_attributes::<Chore>(py, "Chore"));
}

#[test]
fn nowhere() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
based = Based()
try:
    based.attribute = 1
except AttributeError:
    pass
else:
    assert False
",
        )?;
        let based = names.get("based")?;
        assert!(Ref::<Based>::of_bare(&based).is_some());
        Ok(())
    });
}

#[test]
fn our_dict_is_the_one_that_python_sees() {
    python(|py| {
        let names = Names::new(py)?;
        let node = Node::make(py)?;
        assert!(node.own_dict().is_none());
        let dict = node.make_own_dict()?;
        names.set("node", node.as_obj())?;
        names.set("own", &dict)?;
        names.run("assert node.__dict__ is own\nnode.a = 1\nassert own == {'a': 1}")?;
        names.run("node.__dict__ = {'b': 2}\nassert own == {'a': 1} and node.b == 2")?;
        let now = node.own_dict().expect("it has one");
        assert!(!now.is(&dict));
        names.set("now", &now)?;
        names.run("assert node.__dict__ is now")
    });
}
