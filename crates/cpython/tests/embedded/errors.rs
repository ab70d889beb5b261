//! [`Raised`]: exceptions raised, caught, put aside and reported.

use cpython::error::{self, handling, preserving};
use cpython::{Obj, Raised};
use pyo3::exceptions::{PyKeyError, PyLookupError, PyTypeError, PyValueError};

use crate::{Names, python};

#[test]
fn an_exception_is_raised_and_taken() {
    python(|py| {
        Raised::check(py)?;
        let raised = Raised::value_error(py, "text");
        assert!(Raised::check(py).is_err());
        assert!(raised.matches(&Obj::class_of::<PyValueError>(py)));
        assert!(!raised.matches(&Obj::class_of::<PyLookupError>(py)));
        let exception = raised.take(py);
        Raised::check(py)?;
        assert_eq!(exception.repr()?.to_string()?, "ValueError('text')");
        assert_eq!(exception.refcount(), 1);
        let again = Raised::raise(exception.clone()).take(py);
        assert!(again.is(&exception));
        drop(again);
        assert_eq!(exception.refcount(), 1);
        Ok(())
    });
}

#[test]
fn only_exceptions_are_raised() {
    python(|py| {
        for wrong in [Obj::int(py, 1)?, Obj::class_of::<PyValueError>(py)] {
            let exception = Raised::raise(wrong.clone()).take(py);
            assert!(exception.is_exact(&Obj::class_of::<PyTypeError>(py)));
            let exception = Raised::raise_in_context(wrong).take(py);
            assert!(exception.is_exact(&Obj::class_of::<PyTypeError>(py)));
        }
        Ok(())
    });
}

#[test]
fn a_traceback_survives() {
    python(|py| {
        let names = Names::new(py)?;
        let raised = names.run("def fail(): raise KeyError(1)\nfail()");
        let exception = raised.expect_err("a KeyError").take(py);
        let traceback = error::traceback(&exception).expect("it was raised");
        let again = Raised::raise(exception).take(py);
        assert!(error::traceback(&again).is_some_and(|same| same.is(&traceback)));
        error::set_traceback(&again, &Obj::none(py));
        assert!(error::traceback(&again).is_none());
        assert!(error::traceback(&names.get("fail")?).is_none());
        Ok(())
    });
}

#[test]
fn one_class_is_ignored() {
    python(|py| {
        Raised::new::<PyKeyError>(py, "key").ignore::<PyLookupError>(py)?;
        Raised::check(py)?;
        let other = Raised::value_error(py, "value").ignore::<PyLookupError>(py);
        let other = other.expect_err("no LookupError").take(py);
        assert!(error::given_matches(
            &other,
            &Obj::class_of::<PyValueError>(py)
        ));
        let class = Obj::class_of::<PyKeyError>(py);
        assert!(error::given_matches(
            &class,
            &Obj::class_of::<PyLookupError>(py)
        ));
        assert!(!error::given_matches(&Obj::none(py), &class));
        Ok(())
    });
}

#[test]
fn what_is_handled_becomes_the_context() {
    python(|py| {
        let first = Raised::value_error(py, "first").take(py);
        let second = handling(&first, || Raised::type_error(py, "second").take(py));
        assert!(error::context(&second).is_some_and(|context| context.is(&first)));
        let made = Obj::class_of::<PyKeyError>(py).call0()?;
        let third = handling(&first, || Raised::raise_in_context(made.clone()).take(py));
        assert!(error::context(&third).is_some_and(|context| context.is(&first)));
        // `raise` leaves the context of the exception as it is.
        let fourth = Obj::class_of::<PyKeyError>(py).call0()?;
        let fourth = handling(&first, || Raised::raise(fourth.clone()).take(py));
        assert!(error::context(&fourth).is_none());
        let after = Raised::type_error(py, "after").take(py);
        assert!(
            error::context(&after).is_none(),
            "nothing is handled any more"
        );
        error::set_context(&after, first.clone());
        error::set_cause(&after, first.clone());
        let names = Names::new(py)?;
        names.set("after", &after)?;
        names.set("first", &first)?;
        names.run("assert after.__context__ is after.__cause__ is first")?;
        error::suppress_context(&after);
        names.run("assert after.__cause__ is None and after.__suppress_context__")
    });
}

#[test]
fn an_exception_is_put_aside_and_back() {
    python(|py| {
        let raised = Raised::value_error(py, "outside");
        preserving(py, || {
            assert!(Raised::check(py).is_ok());
            drop(Raised::type_error(py, "within").take(py));
        });
        let exception = raised.take(py);
        assert_eq!(exception.repr()?.to_string()?, "ValueError('outside')");
        assert!(error::context(&exception).is_none());
        preserving(py, || ());
        Raised::check(py)
    });
}

#[test]
fn what_nobody_can_catch_is_reported() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
reports = []
def keep(report):
    reports.append((report.exc_value.args, report.object, report.err_msg))
hook, sys.unraisablehook = sys.unraisablehook, keep
def fails(argument): raise KeyError(argument)
",
        )?;
        let fails = names.get("fails")?;
        Raised::value_error(py, "one").report_unraisable(Some(&fails));
        Raised::value_error(py, "two").report_unraisable(None);
        error::call_uncaught(&fails, &Obj::int(py, 3)?);
        names.run("fine = []")?;
        error::call_uncaught(
            &names.get("fine")?.attr(pyo3::intern!(py, "append"))?,
            &fails,
        );
        Raised::check(py)?;
        names.run(
            "
sys.unraisablehook = hook
assert fine == [fails]
first, second, third = reports
assert first[:2] == (('one',), fails) and second[:2] == (('two',), None), reports
assert third[0] == (3,), third
assert third[1] is fails or repr(fails) in third[2], third
del reports
",
        )
    });
}

#[test]
fn system_errors_have_number_and_class() {
    python(|py| {
        let names = Names::new(py)?;
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        names.set("error", &Raised::os_error(py, error).take(py))?;
        names.run(
            "
import errno, os
assert type(error) is FileNotFoundError and error.errno == errno.ENOENT
assert error.strerror == os.strerror(errno.ENOENT)
",
        )?;
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "late");
        names.set("error", &Raised::os_error(py, error).take(py))?;
        names.run("assert isinstance(error, OSError) and 'late' in str(error)")
    });
}

#[test]
fn pyo3_and_we_hand_exceptions_over() {
    python(|py| {
        let exception = Raised::value_error(py, "ours").take(py);
        let theirs = Raised::raise(exception.clone()).into_py_err(py);
        Raised::check(py)?;
        let again = Raised::from(theirs).take(py);
        assert!(again.is(&exception));
        let theirs: pyo3::PyErr = Raised::raise(exception.clone()).into();
        drop(theirs);
        Raised::check(py)
    });
}
