//! How the end of a child process reaches the loop.
//!
//! It makes a descriptor readable, which is watched like any other. That is the process's own
//! (`pidfd_open`) where the system has one. Elsewhere it is one end of a pair whose other end a
//! thread holds until `waitid` has returned. Neither way needs the main thread or `SIGCHLD`, so a
//! program may handle or ignore that signal. The exit status stays with the child until
//! [`sys::reap`] takes it: until then no other process gets its number, and a signal sent to it
//! cannot reach another. The thread costs a stack and a switch for each child. One thread that
//! waits for all children would also take the exit status of children that the loop did not start.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::sys;

/// The stack of a thread that makes one system call, in bytes.
const STACK: usize = 64 * 1024;

/// A descriptor that becomes readable when a child process has exited, and stays so.
#[derive(Debug)]
pub struct ChildExit(OwnedFd);

impl ChildExit {
    /// The exit of the child with this process id. A child that is reaped already counts as exited.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors or threads.
    pub fn watch(pid: i32) -> io::Result<ChildExit> {
        match sys::pidfd_open(pid) {
            Ok(fd) => Ok(ChildExit(fd)),
            Err(error) => match error.kind() {
                // Where `SIGCHLD` is ignored, the child may be gone already. The thread finds that
                // out.
                io::ErrorKind::Unsupported | io::ErrorKind::NotFound => ChildExit::by_thread(pid),
                _ => Err(error),
            },
        }
    }

    fn by_thread(pid: i32) -> io::Result<ChildExit> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        std::thread::Builder::new()
            .name("waitpid".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                sys::block_signals();
                // A child that someone else has reaped has exited as well.
                let _ = sys::wait_for_exit(pid);
                drop(writer);
            })?;
        Ok(ChildExit(reader.into()))
    }

    /// The descriptor to register for reading.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::selector::{Interest, Selector};
    use std::process::{Child, Command, Stdio};

    fn child(command: &str) -> Child {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn pid(child: &Child) -> i32 {
        child.id().try_into().unwrap()
    }

    fn is_readable(exit: &ChildExit, timeout: Option<u64>) -> bool {
        let selector = Selector::new().unwrap();
        selector.register(exit.fd(), 1, Interest::READ).unwrap();
        let mut events = Vec::new();
        selector.wait(timeout, &mut events).unwrap();
        events.iter().any(|event| event.readable)
    }

    fn exits(watch: fn(i32) -> io::Result<ChildExit>) {
        for (command, code) in [("read line; exit 7", 7), ("read line; kill -9 $$", -9)] {
            let mut child = child(command);
            let exit = watch(pid(&child)).unwrap();
            assert!(!is_readable(&exit, Some(1_000_000)));
            drop(child.stdin.take());
            assert!(is_readable(&exit, None));
            assert!(is_readable(&exit, Some(0)), "it stays readable");
            assert_eq!(sys::reap(pid(&child)).unwrap(), code);
            assert!(child.wait().is_err(), "the status is taken");
        }
    }

    #[test]
    fn exit_is_seen_by_the_processs_descriptor() {
        exits(ChildExit::watch);
    }

    #[test]
    fn exit_is_seen_by_a_thread() {
        exits(ChildExit::by_thread);
    }

    #[test]
    fn child_reaped_by_others_has_exited() {
        let mut child = child("read line");
        let pid = pid(&child);
        let exit = ChildExit::by_thread(pid).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_readable(&exit, None));
        assert!(is_readable(&ChildExit::watch(pid).unwrap(), None));
        assert_eq!(
            sys::reap(pid).unwrap_err().raw_os_error(),
            Some(libc::ECHILD)
        );
    }

    #[test]
    fn process_that_is_none_of_ours_has_exited_for_the_thread() {
        let exit = ChildExit::by_thread(1).unwrap();
        assert!(is_readable(&exit, None));
    }

    #[test]
    fn watch_ends_before_the_child() {
        let mut child = child("read line");
        drop(ChildExit::by_thread(pid(&child)).unwrap());
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}
