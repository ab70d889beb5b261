//! Readers that get their bytes past `data_received`.
//!
//! A stream's protocol does nothing with data but hand it to its reader. The room of the streams,
//! which is built on this one, registers here how bytes get there from where they were read.

use std::sync::OnceLock;

use cpython::{Obj, Raised};

/// What has become of bytes.
pub(crate) enum Fed {
    /// The object has them.
    Stored(Obj),
    /// Nobody wants them.
    Dropped,
    /// They are for `data_received`.
    Refused,
}

/// How bytes get to a protocol's reader.
pub(crate) struct Feeder {
    /// Whether the protocol may be one of a stream, nothing of it replaced.
    pub(crate) takes: fn(&Obj) -> Result<bool, Raised>,
    /// Stores bytes; runs no Python code of the program.
    pub(crate) store: fn(&Obj, &[u8]) -> Result<Fed, Raised>,
    /// Tells the object that has them.
    pub(crate) stored: fn(&Obj) -> Result<(), Raised>,
}

static FEEDER: OnceLock<Feeder> = OnceLock::new();

/// Registers it; called once, when the module starts.
pub(crate) fn feed_by(feeder: Feeder) {
    let _ = FEEDER.set(feeder);
}

/// What was registered.
#[inline]
pub(super) fn feeder() -> Option<&'static Feeder> {
    FEEDER.get()
}

/// Whether the protocol may be one of a stream.
pub(super) fn takes(protocol: &Obj) -> Result<bool, Raised> {
    feeder().map_or(Ok(false), |feeder| (feeder.takes)(protocol))
}
