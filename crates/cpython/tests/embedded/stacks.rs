//! The depth of the C stack: chains of objects that release one another, and nested calls.

use cpython::coro::{self, Step};
use cpython::{Obj, Python, Raised, Ref, stack};

use crate::toys::{Counted, Node, Wrapper};
use crate::{Names, python};

const CHAIN: usize = 300_000;

/// Runs a test in a thread with a stack of that size.
fn with_stack(size: usize, test: impl FnOnce(Python<'_>) -> Result<(), Raised> + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(size);
        let running = thread
            .spawn_scoped(scope, || python(test))
            .expect("a thread");
        if let Err(panic) = running.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A chain of objects. The function makes each from the one before.
fn chain(
    py: Python<'_>,
    link: impl Fn(usize, Option<Obj>) -> Result<Obj, Raised>,
) -> Result<Obj, Raised> {
    let mut last = None;
    for number in 0..CHAIN {
        last = Some(link(number, last)?);
    }
    Ok(last.unwrap_or_else(|| Obj::none(py)))
}

fn node(py: Python<'_>, next: Option<Obj>) -> Result<Obj, Raised> {
    let node = Node::make(py)?;
    node.next.set(next);
    Ok(node.into_obj())
}

#[test]
fn a_long_chain_goes_on_a_small_stack() {
    with_stack(256 << 10, |py| {
        let before = Counted::alive();
        let last = chain(py, |_, next| node(py, next))?;
        assert_eq!(Counted::alive(), before + CHAIN);
        drop(last);
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_chain_of_many_kinds_goes_on_a_small_stack() {
    with_stack(256 << 10, |py| {
        let before = Counted::alive();
        let names = Names::new(py)?;
        names.run("class Sub(Node): pass\nclass Slotted(Node): __slots__ = 'more',")?;
        let (sub, slotted) = (names.get("Sub")?, names.get("Slotted")?);
        let last = chain(py, |number, next| {
            let next = next.unwrap_or_else(|| Obj::none(py));
            match number % 5 {
                0 => sub.call1(&next),
                1 => Obj::tuple(py, &[next]),
                2 => slotted.call1(&next),
                3 => {
                    let list = Obj::list(py)?;
                    list.append(&next)?;
                    Ok(list)
                }
                _ => node(py, next.not_none()),
            }
        })?;
        drop(last);
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_chain_of_a_subclass_goes() {
    // Before 3.14 CPython releases ten thousand of its own objects within one another, whatever the
    // stack.
    let size = if cfg!(Py_3_14) { 256 << 10 } else { 64 << 20 };
    with_stack(size, |py| {
        let before = Counted::alive();
        let names = Names::new(py)?;
        names.run("class Sub(Node): __slots__ = ()")?;
        let sub = names.get("Sub")?;
        let last = chain(py, |_, next| {
            sub.call1(&next.unwrap_or_else(|| Obj::none(py)))
        })?;
        drop(last);
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn a_long_cycle_is_collected_on_a_small_stack() {
    with_stack(256 << 10, |py| {
        let before = Counted::alive();
        let first = Node::make(py)?;
        let mut next = first.clone().into_obj();
        for _ in 0..CHAIN / 10 {
            next = node(py, Some(next))?;
        }
        first.next.set(Some(next));
        drop(first);
        crate::collect(py)?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

#[test]
fn what_waits_to_go_is_whole_for_who_finds_it() {
    python(|py| {
        let before = Counted::alive();
        let names = Names::new(py)?;
        names.run(
            "
seen = []
def end(node):
    seen.append(node.value)
    # It lets another chain go meanwhile.
    inner = None
    for _ in range(100):
        inner = Node(inner)
last = None
for number in range(2000):
    last = Node(last, number)
    if number % 10 == 0:
        last.on_end = end
references = [weakref.ref(last), weakref.ref(last.next)]
del last
assert sorted(seen) == list(range(0, 2000, 10)), len(seen)
assert not any(reference() for reference in references)
",
        )?;
        assert_eq!(Counted::alive(), before);
        Ok(())
    });
}

/// Nests calls until an exception ends them.
fn nest(coroutine: &Obj, depth: &mut usize) -> Result<(), Raised> {
    let _nested = stack::Nested::enter(coroutine.py())?;
    *depth += 1;
    nest(coroutine, depth)?;
    // This keeps the call above from being a tail call.
    *depth += 0;
    Ok(())
}

#[test]
fn calls_that_nest_without_end_raise() {
    for size in [192 << 10, 512 << 10, 16 << 20] {
        with_stack(size, |py| {
            assert!(!stack::is_low(), "a new thread has plenty");
            let list = Obj::list(py)?;
            let mut depth = 0;
            let raised = nest(&list, &mut depth).expect_err("it cannot go on");
            let exception = raised.take(py);
            let class = Obj::class_of::<pyo3::exceptions::PyRecursionError>(py);
            assert!(exception.is_exact(&class));
            assert!(depth > 100, "{depth}");
            // Everything works afterwards.
            assert!(!stack::is_low());
            stack::check(py)?;
            let mut again = 0;
            drop(nest(&list, &mut again).expect_err("as before").take(py));
            assert_eq!(again, depth);
            Ok(())
        });
    }
}

#[test]
fn coroutines_that_await_one_another_without_end_raise() {
    with_stack(256 << 10, |py| {
        let names = Names::new(py)?;
        names.run("def end(): yield 'end'")?;
        let mut inner = names.get("end")?.call0()?;
        let class = Ref::<Wrapper>::class(py);
        for _ in 0..100_000 {
            inner = class.call1(&inner)?;
        }
        match coro::send_none(&inner) {
            Step::Raised(raised) => {
                let exception = raised.take(py);
                let class = Obj::class_of::<pyo3::exceptions::PyRecursionError>(py);
                assert!(exception.is_exact(&class));
            }
            _ => panic!("it went on"),
        }
        names.set("inner", &inner)?;
        drop(inner);
        names.run("del inner\ngc.collect()")
    });
}
