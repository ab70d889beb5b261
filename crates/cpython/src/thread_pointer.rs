//! The number by which a free-threaded interpreter tells threads apart, `_Py_ThreadId()`.
//!
//! It is the thread pointer: an address that belongs to one thread as long as it runs, and that a
//! later thread may get again.

/// Whether [`thread_pointer`] is CPython's own number, the `ob_tid` of objects that the thread has
/// made. Elsewhere the number only tells threads apart.
pub(crate) const IS_CPYTHONS: bool = cfg!(all(
    unix,
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
));

/// The number of the calling thread.
#[inline(always)]
pub(crate) fn thread_pointer() -> usize {
    #[cfg(all(unix, target_pointer_width = "64", target_arch = "x86_64"))]
    {
        let pointer: usize;
        // SAFETY: reads the first word of the thread's own block, which holds the block's address.
        unsafe {
            #[cfg(not(target_vendor = "apple"))]
            std::arch::asm!(
                "mov {}, qword ptr fs:[0]",
                out(reg) pointer,
                options(pure, readonly, nostack, preserves_flags)
            );
            #[cfg(target_vendor = "apple")]
            std::arch::asm!(
                "mov {}, qword ptr gs:[0]",
                out(reg) pointer,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        pointer
    }
    #[cfg(all(unix, target_pointer_width = "64", target_arch = "aarch64"))]
    {
        let pointer: usize;
        // SAFETY: reads a register.
        unsafe {
            #[cfg(not(target_vendor = "apple"))]
            std::arch::asm!(
                "mrs {}, tpidr_el0",
                out(reg) pointer,
                options(pure, nomem, nostack, preserves_flags)
            );
            #[cfg(target_vendor = "apple")]
            std::arch::asm!(
                "mrs {}, tpidrro_el0",
                out(reg) pointer,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        pointer
    }
    #[cfg(not(all(
        unix,
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here) as usize)
    }
}
