//! Counts that a program gives: an int mostly, a float (infinity) sometimes.

use cpython::{Obj, Python, Raised};

/// The number.
#[derive(Clone, Copy)]
pub(super) struct Number {
    value: f64,
    is_float: bool,
}

impl Number {
    /// An int.
    pub(super) fn int(value: i32) -> Number {
        Number {
            value: value.into(),
            is_float: false,
        }
    }

    /// What a program gives.
    ///
    /// # Errors
    /// TypeError, that of a comparison with an int, for what is no number.
    pub(super) fn of(value: &Obj) -> Result<Number, Raised> {
        if !value.is_int() && !value.is_float_exact() {
            let py = value.py();
            let operator = Obj::import(py, c"operator")?;
            operator.method(pyo3::intern!(py, "lt"), &[value, &Obj::int(py, 0)?])?;
        }
        Ok(Number {
            value: value.to_f64()?,
            is_float: !value.is_int(),
        })
    }

    #[inline]
    pub(super) fn is_zero(self) -> bool {
        self.value == 0.0
    }

    #[inline]
    pub(super) fn is_positive(self) -> bool {
        self.value > 0.0
    }

    pub(super) fn is_negative(self) -> bool {
        self.value < 0.0
    }

    #[inline]
    pub(super) fn is_at_least(self, other: Number) -> bool {
        self.value >= other.value
    }

    /// The least count that is not less; no count is where it is not positive or infinite.
    pub(super) fn limit(self) -> usize {
        if self.value > 0.0 {
            self.value.ceil() as usize
        } else {
            usize::MAX
        }
    }

    #[inline]
    pub(super) fn plus_one(self) -> Number {
        Number {
            value: self.value + 1.0,
            ..self
        }
    }

    #[inline]
    pub(super) fn less_one(self) -> Number {
        Number {
            value: self.value - 1.0,
            ..self
        }
    }

    /// For Python.
    pub(super) fn show(self, py: Python<'_>) -> Result<Obj, Raised> {
        if self.is_float {
            Obj::float(py, self.value)
        } else {
            Obj::int(py, self.value as i64)
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_float {
            write!(formatter, "{:?}", self.value)
        } else {
            write!(formatter, "{}", self.value as i64)
        }
    }
}
