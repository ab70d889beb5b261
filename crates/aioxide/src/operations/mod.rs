//! Operations on descriptors that belong to no transport.
//!
//! - [`accept`]: taking connections from a listening socket.
//! - [`sock`]: the `sock_*` methods.

pub(crate) mod accept;
mod sock;

use cpython::{Python, Raised, Ref};

use crate::handles::{Registry, Served};
use crate::interop::EndsProgram;
pub(crate) use accept::{Acceptor, start_serving, stop_serving};
use sock::SockCall;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    cpython::build::build::<Acceptor>(py, None, 0)?;
    cpython::build::build::<SockCall>(py, None, 0)?;
    registry.serve::<SockCall>();
    registry.serve::<Acceptor>();
    sock::add_methods(py)
}

impl Served for SockCall {
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        sock::on_ready(this)
    }

    #[inline]
    fn on_writable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        sock::on_ready(this)
    }
}

impl Served for Acceptor {
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        accept::on_readable(this)
    }
}
