//! Functions that we make: built-in ones, bound methods, and those with attributes.

use cpython::build::{MethodDef, bound_method, bound_method0, function};
use cpython::callable::{bound, callable, quick_method, seal};
use cpython::{Args, Obj, Python, Raised, Ref};

use crate::toys::{Node, Promise};
use crate::{Names, python};

/// Returns all its arguments, as a tuple.
fn all(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let (tuple, dict) = args.to_tuple_and_dict(py)?;
    Obj::tuple(py, &[tuple, dict.unwrap_or_else(|| Obj::none(py))])
}

#[test]
fn a_builtin_function_takes_any_arguments() {
    python(|py| {
        let names = Names::new(py)?;
        let module = Obj::str(py, "toys")?;
        names.set("f", &function(py, c"f", c"Doc.", &module, all)?)?;
        let panics = function(py, c"panics", c"Doc.", &module, |_, _| -> bool {
            panic!("on purpose")
        })?;
        names.set("panics", &panics)?;
        names.run(
            "
assert f() == ((), None) and f(1, a=2) == ((1,), {'a': 2})
assert f(*range(50), **{f'a{n}': n for n in range(50)})[1]['a49'] == 49
assert f.__module__ == 'toys' and f.__name__ == 'f' and f.__doc__ == 'Doc.'
try:
    panics()
except RuntimeError as error:
    assert 'on purpose' in str(error)
else:
    assert False
",
        )
    });
}

#[test]
fn a_bound_method_keeps_its_object() {
    static ECHO: MethodDef = MethodDef::new(c"echo", c"Echoes.");
    static ME: MethodDef = MethodDef::new(c"me", c"Itself.");
    python(|py| {
        let names = Names::new(py)?;
        let node = Node::make(py)?;
        let before = node.as_obj().refcount();
        let echo = bound_method(&node, &ECHO, |this: &Ref<Node>, argument| {
            Obj::tuple(this.py(), &[this.as_obj().clone(), argument.clone()])
        })?;
        let me = bound_method0(&node, &ME, |this: &Ref<Node>| this.clone())?;
        assert_eq!(node.as_obj().refcount(), before + 2);
        names.set("echo", &echo)?;
        names.set("me", &me)?;
        drop((node, echo, me));
        names.run(
            "
assert echo(1) == (me(), 1) and echo.__self__ is me()
reference = weakref.ref(me())
del echo
assert reference() is not None
del me
assert reference() is None
",
        )
    });
}

#[test]
fn a_callable_behaves_as_a_function_of_python() {
    python(|py| {
        let names = Names::new(py)?;
        let made = callable(py, "made", "Doc.", all)?;
        names.set("made", &made)?;
        names.run("made.marker, made.__module__ = 'a fact', 'toys'")?;
        seal(&made);
        names.run(
            "
import functools
assert made(1, a=2) == ((1,), {'a': 2}) and made() == ((), None)
assert made.__name__ == made.__qualname__ == 'made' and made.__doc__ == 'Doc.'
assert repr(made).startswith('<function made at 0x')
# Facts are no attributes of its own.
made.own = 1
assert made.__dict__ == {'own': 1} and made.marker == 'a fact'
assert {'own', 'marker', '__name__'} <= set(dir(made))
made.marker = 'changed'
assert made.marker == 'changed' and 'marker' not in made.__dict__
del made.own
assert not hasattr(made, 'own') and not hasattr(made, 'other')
try:
    del made.other
except AttributeError:
    pass
else:
    assert False
# What wraps it has no facts but those of every function.
@functools.wraps(made)
def wrapper(): pass
assert wrapper.__name__ == 'made' and not hasattr(wrapper, 'marker')
# It binds where a class has it.
class Class:
    method = made
one = Class()
assert one.method(1) == ((one, 1), None) and Class.method is made
assert one.method.__self__ is one
made.__dict__ = {'a': 1}
assert made.a == 1
reference = weakref.ref(made)
assert reference() is made
try:
    type(made)()
except TypeError:
    pass
else:
    assert False
",
        )?;
        names.set("method", &bound(&made, &Obj::list(py)?)?)?;
        names.run("assert method(1) == (([], 1), None)\ndel method")?;
        drop(made);
        names.run(
            "
made.itself = made
del made, wrapper, Class, one
gc.collect()
assert reference() is None
",
        )
    });
}

#[test]
fn a_quick_method_is_quick_only_where_it_may() {
    python(|py| {
        let names = Names::new(py)?;
        let quick = quick_method::<Promise, _, _, _, 1>(
            py,
            "quick",
            "Doc.",
            |this: &Ref<Promise>, [argument]: &[Obj; 1]| {
                let py = this.py();
                if argument.is_str_exact() {
                    panic!("on purpose");
                }
                Obj::tuple(py, &[Obj::str(py, "quick")?, argument.clone()])
            },
            all,
        )?;
        names.set("quick", &quick)?;
        names.run(
            "
promise, chore = Promise(), Chore()
assert quick(promise, 1) == ('quick', 1)
for other in (
    quick(promise), quick(promise, 1, 2), quick(promise, a=1), quick(), quick(1, 1),
    quick(promise, 1, a=2),
):
    assert len(other) == 2 and other[0] != 'quick', other
try:
    quick(promise, 'panic')
except RuntimeError as error:
    assert 'on purpose' in str(error)
else:
    assert False
class Class:
    method = quick
assert Class().method(1)[0] != 'quick'
",
        )
    });
}

#[test]
fn arguments_are_passed_by_place_and_name() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("def f(*args, **named): return args, named\nclass C:\n    f = f\nc = C()")?;
        let (f, c) = (names.get("f")?, names.get("c")?);
        let (one, two) = (Obj::int(py, 1)?, Obj::int(py, 2)?);
        let named = Obj::tuple(py, &[Obj::str(py, "two")?])?;
        let shown = |result: Obj| result.repr()?.to_string();
        assert_eq!(shown(f.call0()?)?, "((), {})");
        assert_eq!(shown(f.call1(&one)?)?, "((1,), {})");
        assert_eq!(shown(f.call(&[&one, &two])?)?, "((1, 2), {})");
        assert_eq!(
            shown(f.call_named(&[&one, &two], Some(&named))?)?,
            "((1,), {'two': 2})"
        );
        let many = vec![one.clone(); 40];
        assert_eq!(
            f.call_all(&many)?
                .tuple_item(0)
                .map(|args| args.tuple_len()),
            Some(40)
        );
        let borrowed: Vec<&Obj> = many.iter().collect();
        assert_eq!(
            f.call(&borrowed)?
                .tuple_item(0)
                .map(|args| args.tuple_len()),
            Some(40)
        );
        let tuple = Obj::tuple(py, &many)?;
        assert!(
            f.call_tuple(&tuple)?
                .tuple_item(0)
                .is_some_and(|args| args.tuple_len() == 40)
        );
        let name = pyo3::intern!(py, "f");
        let result = c.method_named(name, &[&one, &two], Some(&named))?;
        names.set("result", &result)?;
        names.run("assert result == ((c, 1), {'two': 2})")?;
        let result = c.method(name, &borrowed)?;
        assert!(
            result
                .tuple_item(0)
                .is_some_and(|args| args.tuple_len() == 41)
        );
        assert!(c.method(pyo3::intern!(py, "nothing"), &[]).is_err());
        drop(Raised::check(py).expect_err("an AttributeError").take(py));
        Ok(())
    });
}
