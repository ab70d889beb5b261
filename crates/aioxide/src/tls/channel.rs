//! The transport under TLS: a native one is called directly, any other through Python.

use cpython::{Obj, Raised, Ref, Slot, Visit};

use crate::transports::transport::{pause_reading, resume_reading};
use crate::transports::{self, StreamTransport};

/// The transport below, from `connection_made` to `connection_lost`. Without one, nothing happens.
#[derive(Default)]
pub(super) struct TlsChannel(Slot);

impl TlsChannel {
    /// asyncio's `_transport`.
    pub(super) fn get(&self) -> Option<Obj> {
        self.0.get()
    }

    pub(super) fn set(&self, transport: Option<Obj>) {
        self.0.set(transport);
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.0);
    }

    /// Sends bytes.
    #[inline]
    pub(super) fn write(&self, data: &Obj) -> Result<(), Raised> {
        let Some(transport) = self.get() else {
            return Ok(());
        };
        match Ref::<StreamTransport>::of_exact(&transport) {
            Some(native) => transports::write(native, data),
            None => transport
                .method(pyo3::intern!(data.py(), "write"), &[data])
                .map(drop),
        }
    }

    /// Sends several bytes objects by one write.
    pub(super) fn write_all(&self, pieces: &[Obj]) -> Result<(), Raised> {
        let Some(transport) = self.get() else {
            return Ok(());
        };
        match (Ref::<StreamTransport>::of_exact(&transport), pieces) {
            (_, []) => Ok(()),
            (_, [piece]) => self.write(piece),
            (Some(native), pieces) => transports::write_all(native, pieces),
            (None, pieces) => {
                let joined = pieces.iter().filter_map(Obj::as_bytes).collect::<Vec<_>>();
                self.write(&Obj::bytes(transport.py(), &joined.concat())?)
            }
        }
    }

    /// Ends the connection now.
    pub(super) fn force_close(&self, exception: Option<Obj>) -> Result<(), Raised> {
        let Some(transport) = self.get() else {
            return Ok(());
        };
        match Ref::<StreamTransport>::of_exact(&transport) {
            Some(native) => transports::force_close(native, exception),
            None => {
                let py = transport.py();
                if cfg!(not(Py_3_12)) && exception.is_none() {
                    return transport.method(pyo3::intern!(py, "abort"), &[]).map(drop);
                }
                let exception = exception.unwrap_or_else(|| Obj::none(py));
                transport
                    .method(pyo3::intern!(py, "_force_close"), &[&exception])
                    .map(drop)
            }
        }
    }

    /// Sends the bytes that wait, then ends the connection.
    pub(super) fn close(&self) -> Result<(), Raised> {
        match self.get() {
            Some(transport) => transport
                .method(pyo3::intern!(transport.py(), "close"), &[])
                .map(drop),
            None => Ok(()),
        }
    }

    /// Whether the transport is closing or closed.
    pub(super) fn is_closing(&self) -> Result<bool, Raised> {
        match self.get() {
            Some(transport) => transport
                .method(pyo3::intern!(transport.py(), "is_closing"), &[])?
                .truth(),
            None => Ok(false),
        }
    }

    pub(super) fn pause_reading(&self) -> Result<(), Raised> {
        let Some(transport) = self.get() else {
            return Ok(());
        };
        match Ref::<StreamTransport>::of_exact(&transport) {
            Some(native) => pause_reading(native),
            None => transport
                .method(pyo3::intern!(transport.py(), "pause_reading"), &[])
                .map(drop),
        }
    }

    pub(super) fn resume_reading(&self) -> Result<(), Raised> {
        let Some(transport) = self.get() else {
            return Ok(());
        };
        match Ref::<StreamTransport>::of_exact(&transport) {
            Some(native) => resume_reading(native),
            None => transport
                .method(pyo3::intern!(transport.py(), "resume_reading"), &[])
                .map(drop),
        }
    }
}
