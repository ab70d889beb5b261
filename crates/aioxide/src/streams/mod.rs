//! Streams: readers and writers over transports.
//!
//! - [`classes`]: the classes that programs see, made from native ones and asyncio's own.
//! - [`content`]: the bytes that a reader has received.
//! - [`reader`]: StreamReader, and how it gets its data.
//! - [`reading`]: the coroutines of a reader.
//! - [`connection`]: the attributes of a protocol for the beginning and end of its connection.
//! - [`protocol`]: StreamReaderProtocol, the protocol of a stream's transport.
//! - [`writer`]: StreamWriter, except for its coroutines.
//! - [`draining`]: the coroutines of a writer.

mod classes;
mod connection;
mod content;
mod draining;
mod imports;
mod protocol;
mod reader;
mod reading;
mod writer;

use cpython::{Args, Obj, Python, Raised, Ref};

pub(crate) use protocol::StreamReaderProtocol;
pub(crate) use reader::StreamReader;
pub(crate) use writer::StreamWriter;

use draining::DrainCoroutine;
use reading::ReadCoroutine;

use crate::handles::Registry;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    imports::load(py)?;
    cpython::build::build::<StreamReader>(py, None, 0)?;
    cpython::build::build::<StreamWriter>(py, None, 0)?;
    cpython::build::build::<StreamReaderProtocol>(py, None, 0)?;
    cpython::build::build::<ReadCoroutine>(py, None, 0)?;
    cpython::build::build::<DrainCoroutine>(py, None, 0)?;
    registry.serve_taker::<StreamReaderProtocol>();
    reading::add_methods(py)?;
    draining::add_methods(py)
}

/// Adds the functions to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"_keep_class(cls)\n--\n\nPrepare a class that programs see; it has no objects yet.";
    let keep = cpython::build::function(py, c"_keep_class", doc, name, keep_class)?;
    module.set_attr(pyo3::intern!(py, "_keep_class"), &keep)
}

/// `_keep_class(cls)`: keeps the class that programs see of a native one, and makes its objects
/// small.
fn keep_class(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let class = args.one("_keep_class", "cls")?;
    cpython::build::leave_no_room_for_attributes(class);
    let order = class.attr(pyo3::intern!(py, "__mro__"))?;
    let derives = |native: Obj| {
        (0..order.tuple_len()).any(|index| order.tuple_item(index).is_some_and(|it| it.is(&native)))
    };
    if derives(Ref::<StreamReader>::class(py)) {
        reader::CLASS.set(class);
    } else if derives(Ref::<StreamReaderProtocol>::class(py)) {
        protocol::CLASS.set(class);
    }
    Ok(())
}
