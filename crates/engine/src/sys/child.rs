//! Child processes: a descriptor for the end of one, and its exit status.

use std::io;
use std::os::fd::OwnedFd;

use super::retry;

/// A descriptor that becomes readable when the process has exited. It stands for this process,
/// whoever gets its number later. `Unsupported` where the system has none, or hides it; `NotFound`
/// when there is no such process.
///
/// # Errors
/// What `pidfd_open(2)` gives.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: only numbers are passed. Called by number, as older C libraries do not have the
    // function. The descriptor is close-on-exec.
    let fd = retry(|| unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int });
    match fd {
        // SAFETY: the call has just made this descriptor and nobody else knows of it.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        // Sandboxes that do not know the call refuse it.
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => io::ErrorKind::Unsupported.into(),
            Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
            _ => error,
        }),
    }
}

/// There is none.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn pidfd_open(_pid: i32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes the exit status off a child, waiting for its end: its exit code, or the number of the
/// signal that has ended it, negated.
///
/// # Errors
/// `ECHILD` when the status is taken already.
pub fn reap(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to an int of ours.
    retry(|| unsafe { libc::waitpid(pid, &mut status, 0) })?;
    Ok(if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    })
}

/// Waits until a child has exited, and does not take its status: until that is taken, no other
/// process gets the child's number.
///
/// # Errors
/// `ECHILD` when the status is taken already.
pub(crate) fn wait_for_exit(pid: i32) -> io::Result<()> {
    retry(|| {
        // SAFETY: all zeroes is a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: the pointer is to a structure of ours.
        unsafe { libc::waitid(libc::P_PID, pid.unsigned_abs(), &mut info, options) }
    })
    .map(drop)
}

/// Blocks all signals in the calling thread, so that they reach threads that can handle them.
pub(crate) fn block_signals() {
    // SAFETY: all zeroes is a valid set, which the first call fills; both pointers are to it or
    // null. The calls fail for a wrong first argument only.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}
