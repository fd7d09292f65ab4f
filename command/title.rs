//! What process listings show: `title`.
//!
//! The command line that `ps` reads lies in our own memory, and its place is told by
//! `/proc/self/stat`; it is written over, as far as a title fits, and the rest of it made empty. The
//! name of the main thread is the short name of the process. Nothing reads the arguments afterwards.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use floe_core::config::settings::Title;
use tracing::debug;

/// Name the reference has in listings.
const REFERENCE_NAME: &str = "statsd";

/// Longest name of a thread, bytes.
const NAME_BYTES_MAX: usize = 15;

/// Fields of `/proc/self/stat` behind the name of the program, from 0: where the arguments begin and
/// end.
const ARGUMENTS_START: usize = 45;

/// The command line as it was, and how it is shown.
#[derive(Debug)]
pub(super) struct ProcessTitle {
    /// As the kernel shows it, with its zeros.
    original: Vec<u8>,
    /// Behind the program's own name, with blanks between.
    arguments: Vec<u8>,
    name: String,
}

impl ProcessTitle {
    /// Reads the command line: before anything writes over it.
    pub(super) fn read() -> Self {
        let original = fs::read("/proc/self/cmdline").unwrap_or_default();
        let mut arguments = Vec::new();
        for argument in std::env::args_os().skip(1) {
            arguments.push(b' ');
            arguments.extend_from_slice(argument.as_bytes());
        }
        let name = fs::read_to_string("/proc/self/comm").unwrap_or_default();
        Self { original, arguments, name: name.trim_end().to_owned() }
    }

    /// Shows `title`. A kernel that refuses is no reason not to run.
    pub(super) fn apply(&self, title: &Title) {
        let (text, name) = match title {
            Title::Unchanged => (self.original.clone(), self.name.clone()),
            Title::Reference => {
                let text = [REFERENCE_NAME.as_bytes(), &self.arguments].concat();
                (text, REFERENCE_NAME.to_owned())
            }
            Title::Text(text) => (text.clone().into_bytes(), text.clone()),
        };
        if let Err(error) = write_over(&text).and_then(|()| rename_thread(&name)) {
            debug!(%error, "title not shown");
        }
    }
}

/// Writes `text` over the command line.
fn write_over(text: &[u8]) -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name stands in brackets and may hold anything.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace().skip(ARGUMENTS_START);
    let mut place = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (Some(start @ 1..), Some(end)) = (place(), place()) else {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    };
    let room = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    let mut line = vec![0; room];
    // The last byte stays zero.
    let shown = text.len().min(room.saturating_sub(1));
    line[..shown].copy_from_slice(&text[..shown]);
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.write_all_at(&line, start)
}

fn rename_thread(name: &str) -> io::Result<()> {
    let shown: Vec<u8> = name.bytes().take(NAME_BYTES_MAX).collect();
    let name = CString::new(shown)?;
    Ok(rustix::thread::set_name(&name)?)
}
