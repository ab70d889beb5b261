//! Contexts: copies, entering and leaving, and the pool.

use cpython::context::{self, BoundContext, Pool};
use cpython::{Obj, Python, Raised, Slot};

use crate::{Names, python};

/// Looks for CPython's fields, where it says how large its structs are (as of 3.14).
fn verify(py: Python<'_>) -> Result<bool, Raised> {
    let names = Names::new(py)?;
    names.run(
        "
import _asyncio, os, sysconfig
files = [getattr(_asyncio, '__file__', None)]
files += [os.path.join(sysconfig.get_config_var(folder) or '', name)
          for folder in ('LIBDIR', 'LIBPL') for name in
          (sysconfig.get_config_var('INSTSONAME') or '', sysconfig.get_config_var('LDLIBRARY') or '')]
files = '\\n'.join(file for file in files if file and os.path.isfile(file))
",
    )?;
    let files = names.get("files")?.to_string()?;
    for file in files.lines() {
        let words = cpython::foreign::section_words(file.as_ref(), "AsyncioDebug");
        if let Some([_, _, _, _, _, _, _, interpreter, _, thread, ..]) = words.as_deref() {
            context::verify(py, *thread as usize, *interpreter as usize);
            return Ok(true);
        }
    }
    Ok(false)
}

/// A test with a variable, without and with CPython's fields known.
fn with_contexts(test: impl Fn(Python<'_>, &Names) -> Result<(), Raised>) {
    python(|py| {
        for known in [false, true] {
            if known && verify(py)? {
                let pool = Pool::default();
                pool.begin(py)?;
                assert!(pool.is_current(py), "the fields are found");
            }
            let names = Names::new(py)?;
            names.run(
                "
import contextvars
variable = contextvars.ContextVar('variable', default='default')
class Value: pass
",
            )?;
            test(py, &names)?;
        }
        Ok(())
    });
}

#[test]
fn a_copy_is_apart() {
    with_contexts(|py, names| {
        names.run("token = variable.set('outer')")?;
        let copy = context::copy_current(py)?;
        assert!(context::is_context(&copy) && !context::is_context(&Obj::none(py)));
        let second = context::copy(&copy)?;
        names.set("copy", &copy)?;
        names.set("second", &second)?;
        names.run(
            "
assert copy[variable] == 'outer' and copy is not second
copy.run(variable.set, 'inner')
assert (copy[variable], second[variable], variable.get()) == ('inner', 'outer', 'outer')
variable.reset(token)
",
        )?;
        let wrong = context::copy(&Obj::list(py)?).map(drop);
        drop(wrong.expect_err("no context").take(py));
        Ok(())
    });
}

#[test]
fn a_context_is_entered_and_left() {
    with_contexts(|py, names| {
        let copy = context::copy_current(py)?;
        names.set("copy", &copy)?;
        let references = copy.refcount();
        context::enter(&copy)?;
        names.run("variable.set('within')")?;
        names.run("assert variable.get() == 'within'")?;
        let again = context::enter(&copy).expect_err("it is entered").take(py);
        assert!(again.repr()?.to_string()?.starts_with("RuntimeError("));
        names.run(
            "
try:
    copy.run(print)
except RuntimeError:
    pass
else:
    assert False
",
        )?;
        let inner = context::copy(&copy)?;
        context::enter(&inner)?;
        let wrong = context::exit(&copy)
            .expect_err("not the current one")
            .take(py);
        assert!(wrong.repr()?.to_string()?.starts_with("RuntimeError("));
        context::exit(&inner)?;
        context::exit(&copy)?;
        names.run("assert variable.get() == 'default' and copy[variable] == 'within'")?;
        // The context can be entered again, also by Python.
        names.run("assert copy.run(variable.get) == 'within'")?;
        let left = context::exit(&copy).expect_err("it is left").take(py);
        assert!(left.repr()?.to_string()?.starts_with("RuntimeError("));
        let wrong = context::enter(&Obj::list(py)?).expect_err("no context");
        assert!(
            wrong
                .take(py)
                .repr()?
                .to_string()?
                .contains("a context was expected")
        );
        assert_eq!(copy.refcount(), references);
        Ok(())
    });
}

#[test]
fn the_context_of_a_field_is_entered_and_left() {
    with_contexts(|py, names| {
        let field = Slot::default();
        assert!(context::enter_field(&field)?.is_none());
        let copy = context::copy_current(py)?;
        names.set("copy", &copy)?;
        field.set(Some(copy.clone()));
        let entered = context::enter_field(&field)?.expect("there is one");
        // Code that runs in the context may empty the field.
        field.set(None);
        names.run("variable.set(1)")?;
        entered.exit(py)?;
        names.run("assert copy[variable] == 1 and variable.get() == 'default'")?;
        // The context is entered already.
        field.set(Some(copy.clone()));
        let entered = context::enter_field(&field)?.expect("there is one");
        drop(
            context::enter_field(&field)
                .map(|_| ())
                .expect_err("entered")
                .take(py),
        );
        // Other code has left the context before us.
        context::exit(&copy)?;
        drop(entered.exit(py).expect_err("it is left").take(py));
        names.run("assert variable.get() == 'default'")?;
        // An exception that is set stays set.
        let entered = context::enter_field(&field)?.expect("there is one");
        let raised = Raised::value_error(py, "within");
        entered.exit(py)?;
        assert!(raised.take(py).repr()?.to_string()?.contains("within"));
        field.set(Some(Obj::list(py)?));
        drop(
            context::enter_field(&field)
                .map(|_| ())
                .expect_err("no context")
                .take(py),
        );
        Ok(())
    });
}

#[test]
fn the_pool_keeps_no_context_that_was_changed() {
    with_contexts(|py, names| {
        let pool = Pool::default();
        pool.begin(py)?;
        let one = pool.copy_current(py)?;
        let address = one.as_ptr() as usize;
        pool.give_back(one);
        let two = pool.copy_current(py)?;
        if pool.is_current(py) {
            assert_eq!(two.as_ptr() as usize, address, "it was used again");
        }
        // A variable was set in the context: the next copy does not have it, and its value is
        // released.
        names.set("two", &two)?;
        names.run(
            "
value = Value()
reference = weakref.ref(value)
two.run(variable.set, value)
del value, two
",
        )?;
        pool.give_back(two);
        names.run("assert reference() is None")?;
        let three = pool.copy_current(py)?;
        names.set("three", &three)?;
        names.run("assert variable not in three")?;
        // Something else refers to the context, so it is not kept.
        pool.give_back(three.clone());
        let four = pool.copy_current(py)?;
        assert!(!four.is(&three));
        // A copy of another context does not come from the pool.
        names.run("token = variable.set('outside')")?;
        assert!(!pool.is_current(py));
        names.set("five", &pool.copy_current(py)?)?;
        names.run("assert five[variable] == 'outside'\nvariable.reset(token)")?;
        pool.end();
        assert!(!pool.is_current(py) && pool.anchor().is_none());
        Ok(())
    });
}

#[test]
fn the_pool_gives_copies_of_what_was_bound() {
    with_contexts(|py, names| {
        let pool = Pool::default();
        names.run("token = variable.set('bound')")?;
        pool.begin(py)?;
        let bound = match pool.bind_current(py)? {
            BoundContext::To(context) => context,
            BoundContext::ToCopyOf(context) => pool.copy_of(&context)?,
        };
        names.set("bound", &bound)?;
        names.run("assert bound[variable] == 'bound'\ndel bound")?;
        let field = Slot::new(Some(bound));
        let address = field.get().map(|context| context.as_ptr() as usize);
        pool.reclaim(&field);
        if field.is_none() {
            let again = pool.copy_current(py)?;
            assert_eq!(Some(again.as_ptr() as usize), address);
        }
        names.run("variable.reset(token)")?;
        if let Some(entered) = pool.enter_stage() {
            names.run("assert variable.get() == 'bound'\nvariable.set(2)")?;
            entered.exit(py)?;
            pool.leave_stage();
            let entered = pool.enter_stage().expect("a new one");
            names.run("assert variable.get() == 'bound', 'nothing is left of the last'")?;
            entered.exit(py)?;
            pool.leave_stage();
        }
        names.run("assert variable.get() == 'default'")
    });
}
