//! Reading the monotonic clock.

use crate::clock::Nanos;

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[inline]
pub fn monotonic() -> Nanos {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is ours and valid for writing. The call cannot fail for this clock, and if
    // it did, `time` would stay as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos
}
