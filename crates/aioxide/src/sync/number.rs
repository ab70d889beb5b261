//! Counts that a program gives: mostly an int, sometimes a float (infinity).

use cpython::{Obj, Python, Raised};

/// A count as native code keeps it.
#[derive(Clone, Copy)]
pub(super) struct CountNumber {
    value: f64,
    is_float: bool,
}

impl CountNumber {
    /// The count of an int.
    pub(super) fn int(value: i32) -> CountNumber {
        CountNumber {
            value: value.into(),
            is_float: false,
        }
    }

    /// The count that a program gives.
    ///
    /// # Errors
    /// TypeError, as of a comparison with an int, for an object that is no number.
    pub(super) fn of(value: &Obj) -> Result<CountNumber, Raised> {
        if !value.is_int() && !value.is_float_exact() {
            value.is_less(&Obj::int(value.py(), 0)?)?;
        }
        Ok(CountNumber {
            value: value.to_f64()?,
            is_float: !value.is_int(),
        })
    }

    /// Whether the value is the same number here as in Python.
    pub(super) fn is_kept(value: &Obj) -> bool {
        const EXACT: i64 = 1 << 53;
        let is_exact = |value: i64| (-EXACT..=EXACT).contains(&value);
        value.small_int().is_some_and(is_exact) || value.is_float_exact()
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
    pub(super) fn is_at_least(self, other: CountNumber) -> bool {
        self.value >= other.value
    }

    /// The smallest `usize` that is not less than the number; `usize::MAX` if the number is
    /// infinite or not positive.
    pub(super) fn limit(self) -> usize {
        if self.value > 0.0 {
            self.value.ceil() as usize
        } else {
            usize::MAX
        }
    }

    #[inline]
    pub(super) fn plus_one(self) -> CountNumber {
        CountNumber {
            value: self.value + 1.0,
            ..self
        }
    }

    #[inline]
    pub(super) fn less_one(self) -> CountNumber {
        CountNumber {
            value: self.value - 1.0,
            ..self
        }
    }

    /// The number as a Python object.
    pub(super) fn show(self, py: Python<'_>) -> Result<Obj, Raised> {
        if self.is_float {
            Obj::float(py, self.value)
        } else {
            Obj::int(py, self.value as i64)
        }
    }
}
