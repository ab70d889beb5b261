//! [`OwnLine`]: a static that many threads write.

/// A value that has its cache lines for itself in free-threaded builds, so that a thread which
/// writes it takes no other value away from the threads that read that. Two lines, because
/// processors fetch them in pairs.
#[cfg_attr(Py_GIL_DISABLED, repr(align(128)))]
pub struct OwnLine<T>(pub T);

impl<T> std::ops::Deref for OwnLine<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
