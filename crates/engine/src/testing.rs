//! What the property tests of this crate share.

use proptest::test_runner::Config;

/// Runs a property `cases` times, fewer under Miri, which is a thousand times slower. Failures
/// are printed and not stored: Miri has no file system.
pub(crate) fn config(cases: u32) -> Config {
    Config {
        cases: if cfg!(miri) { 6.min(cases) } else { cases },
        failure_persistence: None,
        ..Config::default()
    }
}

/// The length of a property's input, an eighth of it under Miri.
pub(crate) const fn up_to(length: usize) -> usize {
    if cfg!(miri) { length / 8 } else { length }
}
