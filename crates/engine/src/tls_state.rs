//! The order in which a TLS connection and the protocol above it go through their states.

use std::fmt;

/// State of a connection: asyncio's `SSLProtocolState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsState {
    /// The handshake has not begun, or the connection is over.
    Unwrapped,
    /// The handshake is under way.
    DoHandshake,
    /// Both ends exchange the program's bytes.
    Wrapped,
    /// The program or the peer has closed the connection: bytes that wait are still sent.
    Flushing,
    /// Both ends say that they send nothing more.
    Shutdown,
}

/// The last call to the program's protocol: asyncio's `AppProtocolState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppState {
    /// No method was called yet.
    Init,
    /// `connection_made` was called.
    ConnectionMade,
    /// `eof_received` was called too.
    Eof,
    /// `connection_lost` was called.
    ConnectionLost,
}

/// The error of a state that does not follow another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsStateError {
    /// The state that stays.
    pub from: TlsState,
    /// The state that does not follow it.
    pub to: TlsState,
}

impl TlsState {
    /// The name in asyncio's enumeration.
    pub const fn name(self) -> &'static str {
        match self {
            TlsState::Unwrapped => "UNWRAPPED",
            TlsState::DoHandshake => "DO_HANDSHAKE",
            TlsState::Wrapped => "WRAPPED",
            TlsState::Flushing => "FLUSHING",
            TlsState::Shutdown => "SHUTDOWN",
        }
    }

    /// Whether the program's bytes cannot be written: no longer, or not yet.
    #[inline]
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            TlsState::Flushing | TlsState::Shutdown | TlsState::Unwrapped
        )
    }

    /// Returns `next` as the new state.
    ///
    /// # Errors
    /// `next` does not follow this state: the states come in the order in which they are declared,
    /// and each may be followed by [`Unwrapped`](TlsState::Unwrapped).
    pub const fn then(self, next: TlsState) -> Result<TlsState, TlsStateError> {
        if matches!(
            (self, next),
            (_, TlsState::Unwrapped)
                | (TlsState::Unwrapped, TlsState::DoHandshake)
                | (TlsState::DoHandshake, TlsState::Wrapped)
                | (TlsState::Wrapped, TlsState::Flushing)
                | (TlsState::Flushing, TlsState::Shutdown)
        ) {
            Ok(next)
        } else {
            Err(TlsStateError {
                from: self,
                to: next,
            })
        }
    }
}

impl AppState {
    /// The name in asyncio's enumeration.
    pub const fn name(self) -> &'static str {
        match self {
            AppState::Init => "STATE_INIT",
            AppState::ConnectionMade => "STATE_CON_MADE",
            AppState::Eof => "STATE_EOF",
            AppState::ConnectionLost => "STATE_CON_LOST",
        }
    }
}

impl fmt::Display for TlsStateError {
    /// asyncio's text.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cannot switch state from SSLProtocolState.{} to SSLProtocolState.{}",
            self.from.name(),
            self.to.name()
        )
    }
}

impl std::error::Error for TlsStateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    const ALL: [TlsState; 5] = [
        TlsState::Unwrapped,
        TlsState::DoHandshake,
        TlsState::Wrapped,
        TlsState::Flushing,
        TlsState::Shutdown,
    ];

    #[test]
    fn states_come_in_order_and_may_end_at_any_time() {
        for (place, state) in ALL.into_iter().enumerate() {
            for (other, next) in ALL.into_iter().enumerate() {
                let follows = next == TlsState::Unwrapped || other == place + 1;
                assert_eq!(state.then(next).is_ok(), follows, "{state:?} then {next:?}");
            }
        }
    }

    #[test]
    fn an_error_reads_as_asyncios() {
        let error = TlsState::Wrapped.then(TlsState::Shutdown).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot switch state from SSLProtocolState.WRAPPED to SSLProtocolState.SHUTDOWN"
        );
    }

    #[test]
    fn names_are_asyncios() {
        assert_eq!(TlsState::DoHandshake.name(), "DO_HANDSHAKE");
        let states = [
            AppState::Init,
            AppState::ConnectionMade,
            AppState::Eof,
            AppState::ConnectionLost,
        ];
        assert_eq!(
            states.map(AppState::name),
            [
                "STATE_INIT",
                "STATE_CON_MADE",
                "STATE_EOF",
                "STATE_CON_LOST"
            ]
        );
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With any changes tried: once a connection closes, bytes are exchanged again only after a
        /// new handshake.
        #[test]
        fn nothing_is_written_after_the_end(
            tries in prop::collection::vec(0usize..ALL.len(), 1..up_to(200)),
        ) {
            let mut state = TlsState::Unwrapped;
            let mut has_shaken_hands = false;
            for next in tries {
                match state.then(ALL[next]) {
                    Ok(next) => state = next,
                    Err(error) => prop_assert_eq!((error.from, error.to), (state, ALL[next])),
                }
                match state {
                    TlsState::DoHandshake => has_shaken_hands = true,
                    TlsState::Wrapped => prop_assert!(has_shaken_hands && !state.is_over()),
                    _ => {
                        prop_assert!(state.is_over());
                        has_shaken_hands = false;
                    }
                }
            }
        }
    }
}
