//! A daemon thread with frames of ours while the interpreter ends. The test runs in a process of
//! its own, since the interpreter of the other tests stays.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use cpython::{Obj, Python, Raised, interpreter, thread_exit};

/// The environment variable of the process of its own.
const MARK: &str = "AIOXIDE_TEST_THREAD_EXIT";

/// A sentinel: a frame with one is never unwound.
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {
        eprintln!("a frame was unwound");
        std::process::abort();
    }
}

/// Runs Python code under a frame with a sentinel, for ever.
fn run_for_ever(py: Python<'_>, started: &mpsc::Sender<()>) -> Result<(), Raised> {
    thread_exit::stop_at_exit();
    thread_exit::stop_at_exit();
    let _sentinel = Sentinel;
    let sleep = Obj::import(py, c"time")?.attr(pyo3::intern!(py, "sleep"))?;
    let moment = Obj::float(py, 0.001)?;
    loop {
        sleep.call1(&moment)?;
        let _ = started.send(());
    }
}

#[test]
fn a_thread_stops_instead_of_being_unwound() {
    if std::env::var_os(MARK).is_some() {
        end_interpreter();
    }
    for _ in 0..3 {
        let own = std::env::current_exe().expect("a path");
        let output = Command::new(own)
            .args([
                "--exact",
                "--nocapture",
                "thread_exit::a_thread_stops_instead_of_being_unwound",
            ])
            .env(MARK, "1")
            .output()
            .expect("a process");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{text}");
        assert!(!text.contains("unwound"), "{text}");
    }
}

/// The program of the process of its own.
fn end_interpreter() -> ! {
    Python::initialize();
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || {
        Python::attach(|py| {
            let ended = interpreter::claim(py).and_then(|()| run_for_ever(py, &sender));
            if let Err(raised) = ended {
                eprintln!("{}", crate::exception_text(&raised.take(py)));
            }
            std::process::exit(1);
        })
    });
    for _ in 0..10 {
        started.recv().expect("it runs");
    }
    // SAFETY: the interpreter was initialised; this thread attaches itself and uses nothing of
    // Python's afterwards.
    unsafe {
        pyo3::ffi::PyGILState_Ensure();
        pyo3::ffi::Py_FinalizeEx();
    }
    // The thread wants the GIL by now.
    std::thread::sleep(Duration::from_millis(100));
    std::process::exit(7);
}
