//! Which exceptions leave the loop.

use cpython::{Obj, Python, Raised};

use super::asyncio;

/// KeyboardInterrupt or SystemExit, set in this thread: the one failure of an entry of the ready
/// queue that reaches the loop and ends its run. Only [`EndsProgram::or_caught`] makes one, so a
/// function that fails with it has caught and reported all else.
#[derive(Debug)]
#[must_use]
pub(crate) struct EndsProgram(Raised);

impl EndsProgram {
    /// Catches an exception. Fails with one that ends the program.
    #[cold]
    pub(crate) fn or_caught(py: Python<'_>, raised: Raised) -> Result<Obj, EndsProgram> {
        let exception = raised.take(py);
        if ends_program(py, &exception) {
            return Err(EndsProgram(Raised::raise(exception)));
        }
        Ok(exception)
    }

    /// Passes on the outcome of a report. If the report itself fails, its exception goes to
    /// `sys.unraisablehook` with `object`, because there is no other handler left.
    #[cold]
    pub(crate) fn after_report(
        object: &Obj,
        reported: Result<(), Raised>,
    ) -> Result<(), EndsProgram> {
        let Err(raised) = reported else {
            return Ok(());
        };
        let exception = EndsProgram::or_caught(object.py(), raised)?;
        Raised::raise(exception).report_unraisable(Some(object));
        Ok(())
    }

    /// Catches the exception.
    pub(crate) fn take(self, py: Python<'_>) -> Obj {
        self.0.take(py)
    }
}

impl From<EndsProgram> for Raised {
    fn from(ending: EndsProgram) -> Raised {
        ending.0
    }
}

/// Whether the exception ends the program (KeyboardInterrupt, SystemExit), not just a callback or a
/// task.
pub(crate) fn ends_program(py: Python<'_>, exception: &Obj) -> bool {
    let imports = asyncio(py);
    exception.is_subtype_of(imports.keyboard_interrupt.get(py))
        || exception.is_subtype_of(imports.system_exit.get(py))
}
