//! What functions may return to Python.

use pyo3::Python;

use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// A type whose values a function may return to Python.
pub trait Answer {
    /// Converts the value to a new reference. Fails if CPython raises an exception.
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised>;
}

impl Answer for Obj {
    #[inline]
    fn answer(self, _: Python<'_>) -> Result<Obj, Raised> {
        Ok(self)
    }
}
impl Answer for () {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Ok(Obj::none(py))
    }
}
impl Answer for bool {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Ok(Obj::bool(py, self))
    }
}
impl Answer for i64 {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::int(py, self)
    }
}
impl Answer for usize {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::int(py, self as i64)
    }
}
impl Answer for f64 {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::float(py, self)
    }
}
impl Answer for String {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::str(py, &self)
    }
}
impl<T: Hot> Answer for Ref<T> {
    #[inline]
    fn answer(self, _: Python<'_>) -> Result<Obj, Raised> {
        Ok(self.into_obj())
    }
}
impl<A: Answer> Answer for Option<A> {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        match self {
            Some(value) => value.answer(py),
            None => Ok(Obj::none(py)),
        }
    }
}
impl<A: Answer> Answer for Result<A, Raised> {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        self.and_then(|value| value.answer(py))
    }
}
