//! The states of a TLS connection and of the program's protocol above it.

use cpython::{Obj, Raised, Ref};
pub(super) use engine::{AppState, TlsState as State};

use super::imports::imports;
use super::protocol::SslProtocol;

/// Changes the state. Raises RuntimeError if the new state may not follow the present one.
pub(super) fn set_state(this: &Ref<SslProtocol>, next: State) -> Result<(), Raised> {
    let state = this.state.get().then(next);
    this.state
        .set(state.map_err(|error| Raised::runtime_error(this.py(), &error.to_string()))?);
    Ok(())
}

/// `_state`, as asyncio's enumeration has it.
pub(super) fn state_object(this: &Ref<SslProtocol>) -> Result<Obj, Raised> {
    member(this, "SSLProtocolState", this.state.get().name())
}

/// `_app_state`, as asyncio's enumeration has it.
pub(super) fn app_state_object(this: &Ref<SslProtocol>) -> Result<Obj, Raised> {
    member(this, "AppProtocolState", this.app_state.get().name())
}

fn member(this: &Ref<SslProtocol>, class: &str, name: &str) -> Result<Obj, Raised> {
    let py = this.py();
    let module = imports(py)?.module.get(py);
    let class = module.attr(&pyo3::types::PyString::intern(py, class))?;
    class.attr(&pyo3::types::PyString::intern(py, name))
}
