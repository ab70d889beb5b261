//! The states of a TLS connection and of the program's protocol above it.

use cpython::{Obj, Raised, Ref};

use super::imports::imports;
use super::protocol::SslProtocol;

/// asyncio's `SSLProtocolState`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unwrapped,
    DoHandshake,
    Wrapped,
    /// Closing, or the peer has: what waits is still sent.
    Flushing,
    Shutdown,
}

/// asyncio's `AppProtocolState`: what the program's protocol has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AppState {
    Init,
    ConnectionMade,
    Eof,
    ConnectionLost,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Unwrapped => "UNWRAPPED",
            State::DoHandshake => "DO_HANDSHAKE",
            State::Wrapped => "WRAPPED",
            State::Flushing => "FLUSHING",
            State::Shutdown => "SHUTDOWN",
        }
    }

    /// Whether nothing may be written any more.
    #[inline]
    pub(super) fn is_over(self) -> bool {
        matches!(self, State::Flushing | State::Shutdown | State::Unwrapped)
    }

    fn may_become(self, next: State) -> bool {
        next == State::Unwrapped
            || matches!(
                (self, next),
                (State::Unwrapped, State::DoHandshake)
                    | (State::DoHandshake, State::Wrapped)
                    | (State::Wrapped, State::Flushing)
                    | (State::Flushing, State::Shutdown)
            )
    }
}

impl AppState {
    fn name(self) -> &'static str {
        match self {
            AppState::Init => "STATE_INIT",
            AppState::ConnectionMade => "STATE_CON_MADE",
            AppState::Eof => "STATE_EOF",
            AppState::ConnectionLost => "STATE_CON_LOST",
        }
    }
}

/// Changes the state. Raises RuntimeError where that is not next.
pub(super) fn set_state(this: &Ref<SslProtocol>, next: State) -> Result<(), Raised> {
    let state = this.state.get();
    if !state.may_become(next) {
        let text = format!(
            "cannot switch state from SSLProtocolState.{} to SSLProtocolState.{}",
            state.name(),
            next.name()
        );
        return Err(Raised::runtime_error(this.py(), &text));
    }
    this.state.set(next);
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
