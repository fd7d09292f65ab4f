//! Child processes that cannot outlive the test.
//!
//! Each child leads a process group of its own, which is killed on drop; the kernel kills the
//! child when the thread that started it ends, so a killed test binary leaves nothing behind.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::wait;

/// A running child and what it has written so far, standard output and error together.
pub(crate) struct Process {
    label: String,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its output collected.
    pub(crate) fn start(label: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tie_to_parent(&mut command);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {label}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("stdout was piped above");
        let stderr = child.stderr.take().expect("stderr was piped above");
        let readers = vec![collect(stdout, &output), collect(stderr, &output)];
        Self { label: label.to_owned(), child, output, readers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far.
    pub(crate) fn output(&self) -> String {
        let bytes = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The exit status if the child has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Sends `signal` to the child alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.label));
    }

    /// Waits for the end of the child, at most `bound`; its output is complete afterwards.
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        let status = wait::try_until(bound, || self.exited()).unwrap_or_else(|| {
            panic!(
                "{} still runs after {:.1} s; it wrote:\n{}",
                self.label,
                bound.as_secs_f64(),
                self.output()
            )
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("the output reader does not panic");
        }
        status
    }

    /// TERM, then KILL for the whole group after `patience`.
    pub(crate) fn stop(&mut self, patience: Duration) {
        if self.exited().is_none() {
            self.signal(Signal::TERM);
            wait::try_until(patience, || self.exited());
        }
        self.kill();
    }

    /// KILL for the whole group.
    pub(crate) fn kill(&mut self) {
        if self.exited().is_none() {
            // The child is not reaped before the wait below, so its group is there to be killed.
            kill_process_group(self.pid(), Signal::KILL)
                .unwrap_or_else(|error| panic!("cannot kill {}: {error}", self.label));
            self.child.wait().expect("a child of ours can be waited for");
        }
    }

    fn pid(&self) -> Pid {
        let raw = i32::try_from(self.child.id()).expect("process ids fit 31 bits");
        Pid::from_raw(raw).expect("a child's id is not 0")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `command` to its end and gives its standard output.
///
/// # Panics
/// If it fails, with what it wrote.
pub(crate) fn run(label: &str, command: &mut Command) -> String {
    tie_to_parent(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start {label}: {error}"));
    assert!(
        output.status.success(),
        "{label} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The contents of a log file for a failure message, or why there are none.
pub(crate) fn tail(path: &Path) -> String {
    std::fs::read(path).map_or_else(
        |error| format!("({}: {error})", path.display()),
        |bytes| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4_000)..]).into_owned(),
    )
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
        }
    })
}

#[expect(unsafe_code, reason = "pre_exec is the only hook between fork and exec")]
fn tie_to_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY:
    // - async-signal-safe: the closure makes one prctl call and neither allocates nor locks;
    // - borrows nothing: the closure captures no variable.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(std::io::Error::from)
        });
    }
}
