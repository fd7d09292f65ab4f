//! The floe binary under test: started with a configuration and an ingest path of the test's
//! choice, watched until it listens, told to stop, and asked for its exit code.
//!
//! `FLOE_TEST_COMMAND` replaces the command line of daemons that run from a `config.js`, for
//! example `node /somewhere/stats.js {config}`: so the harness itself is checked against the
//! reference daemon. `{config}` and `{dir}` stand for the configuration and its folder.
//! `FLOE_TEST_BINARY` names another build of floe, for example `target/release/floe`.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{process::Process, wait};

/// Longest start of a daemon, on a machine busy with other tests.
const READY_BOUND: Duration = Duration::from_secs(15);
/// The drain's promise (issue 2, part 7).
pub(crate) const DRAIN_BOUND: Duration = Duration::from_secs(3);

/// The receive path under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingest {
    IoUring,
    Recvmmsg,
}

impl Ingest {
    pub(crate) const BOTH: [Self; 2] = [Self::IoUring, Self::Recvmmsg];

    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "recvmmsg",
        }
    }
}

/// What `--ready-file` says once everything listens.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) unix: Vec<PathBuf>,
    pub(crate) mgmt: SocketAddr,
    pub(crate) spool: PathBuf,
}

/// A command line of the built binary, free of the machine's own settings.
pub(crate) fn floe() -> Command {
    let binary = std::env::var_os("FLOE_TEST_BINARY");
    let mut command =
        Command::new(binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_floe").as_ref()));
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with("FLOE_"));
        if is_ours || name == "STATE_DIRECTORY" || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// `command` as the last arguments of `program`, in the same environment.
pub(crate) fn behind(program: &str, arguments: &[String], command: &Command) -> Command {
    let mut wrapper = Command::new(program);
    wrapper.args(arguments).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper
}

/// Runs the built binary to its end with `arguments`.
pub(crate) fn floe_output<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    floe()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start floe: {error}"))
}

/// Standard output and error of a finished command, for messages and searches.
pub(crate) fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// What a daemon is started with.
pub(crate) struct Launch {
    folder: PathBuf,
    /// `None` leaves the path to the environment and the configuration.
    ingest: Option<Ingest>,
    environment: Vec<(String, PathBuf)>,
    subcommand: Option<&'static str>,
    config: Option<PathBuf>,
    spool: Option<PathBuf>,
    arguments: Vec<String>,
    /// A program and its arguments that become the daemon.
    wrapper: Vec<String>,
}

impl Launch {
    /// A daemon whose files lie under `folder`, with the spool `folder/spool`.
    pub(crate) fn under(folder: &Path, ingest: Ingest) -> Self {
        Self {
            folder: folder.to_owned(),
            ingest: Some(ingest),
            environment: Vec::new(),
            subcommand: None,
            config: None,
            spool: Some(folder.join("spool")),
            arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Starts by way of `wrapper`, which in the end executes the command it is given.
    pub(crate) fn wrapped(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    /// Writes `text` to `folder/name` and starts from it; `name` ends in `.js` or `.toml`.
    pub(crate) fn config(mut self, name: &str, text: &str) -> Self {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("the test's folder is writable");
        self.config = Some(path);
        self
    }

    /// Starts from a file that is there.
    pub(crate) fn config_at(mut self, path: &Path) -> Self {
        self.config = Some(path.to_owned());
        self
    }

    /// `ingest` or `export` instead of the whole daemon.
    pub(crate) fn subcommand(mut self, name: &'static str) -> Self {
        self.subcommand = Some(name);
        self
    }

    /// Leaves the spool's place to the configuration.
    pub(crate) fn without_spool_flag(mut self) -> Self {
        self.spool = None;
        self
    }

    /// Leaves the receive path to the environment and the configuration.
    pub(crate) fn without_ingest_flag(mut self) -> Self {
        self.ingest = None;
        self
    }

    /// Sets a variable of the daemon's environment.
    pub(crate) fn environment(mut self, name: &str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the daemon and waits for its ready file.
    pub(crate) fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_ready_file();
        daemon
    }

    /// Starts the daemon and waits until `mgmt_port` accepts, as the golden checker does.
    pub(crate) fn start_on(self, mgmt_port: u16) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_listening(mgmt_port);
        daemon
    }

    /// Starts the daemon and does not wait.
    pub(crate) fn spawn(self) -> Daemon {
        let ready_path = self.folder.join(
            self.subcommand
                .map_or_else(|| "ready.json".to_owned(), |name| format!("ready-{name}.json")),
        );
        // A file left by an earlier run in the same folder would be taken for the new one.
        drop(std::fs::remove_file(&ready_path));
        let command = self.reference_command().unwrap_or_else(|| self.floe_command(&ready_path));
        Daemon { process: Process::start("floe", command), ready_path, ready: None }
    }

    fn floe_command(&self, ready_path: &Path) -> Command {
        let mut command = floe();
        if let Some((program, arguments)) = self.wrapper.split_first() {
            command = behind(program, arguments, &command);
        }
        command.args(self.subcommand).args(&self.config);
        if let Some(spool) = &self.spool {
            command.arg("--spool").arg(spool);
        }
        if self.subcommand != Some("export") {
            // The exporting half receives nothing, so it has no addresses to tell.
            command.arg("--ready-file").arg(ready_path);
            if let Some(ingest) = self.ingest {
                command.args(["--ingest", ingest.flag()]);
            }
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command
    }

    fn reference_command(&self) -> Option<Command> {
        let template = std::env::var("FLOE_TEST_COMMAND").ok()?;
        let config = self.config.as_ref().filter(|path| path.extension() == Some("js".as_ref()))?;
        let config = config.to_str().expect("temporary folders have plain names");
        let folder = self.folder.to_str().expect("temporary folders have plain names");
        let mut words = template
            .split_whitespace()
            .map(|word| word.replace("{config}", config).replace("{dir}", folder));
        let mut command = Command::new(words.next()?);
        command.args(words).current_dir(&self.folder);
        Some(command)
    }
}

/// A running daemon; killed on drop.
pub(crate) struct Daemon {
    process: Process,
    ready_path: PathBuf,
    ready: Option<Ready>,
}

impl Daemon {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What the ready file said.
    pub(crate) fn ready(&self) -> &Ready {
        self.ready.as_ref().expect("the daemon was started with its ready file awaited")
    }

    /// A loopback address on which the daemon takes datagrams.
    pub(crate) fn udp(&self) -> SocketAddr {
        let listener = self.ready().udp.first().expect("the daemon has a UDP listener");
        SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port()))
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// STOP, and waits until the kernel says of every thread that it stands still.
    pub(crate) fn halt(&self) {
        self.signal(Signal::STOP);
        wait::until("every thread to stand still", READY_BOUND, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).ok()?;
            let is_stopped = |stat: &str| {
                stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
            };
            let mut states = tasks.map(|task| {
                let path = task.ok()?.path().join("stat");
                std::fs::read_to_string(path).ok().map(|stat| is_stopped(&stat))
            });
            states.all(|state| state == Some(true)).then_some(())
        });
    }

    pub(crate) fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        self.process.wait_exit(bound)
    }

    /// KILL: nothing is drained.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// `signal`, then the promise of the drain: exit code 0 within three seconds.
    pub(crate) fn drain(&mut self, signal: Signal) {
        self.signal(signal);
        let status = self.wait_exit(DRAIN_BOUND);
        assert!(status.success(), "drained with {status}:\n{}", self.output());
    }

    fn wait_ready_file(&mut self) {
        let path = self.ready_path.clone();
        let ready = self.wait_start("the ready file", || {
            let text = std::fs::read_to_string(&path).ok()?;
            let ready: Ready = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("the ready file is not as agreed: {error}\n{text}"));
            Some(ready)
        });
        self.ready = Some(ready);
    }

    pub(crate) fn wait_listening(&mut self, port: u16) {
        self.wait_start("the management port", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop)
        });
    }

    fn wait_start<T>(&mut self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let end = wait::try_until(READY_BOUND, || match self.process.exited() {
            Some(status) => Some(Err(status)),
            None => probe().map(Ok),
        });
        match end {
            Some(Ok(answer)) => answer,
            Some(Err(status)) => {
                panic!("the daemon ended with {status} before {what}:\n{}", self.output())
            }
            None => panic!("waited in vain for {what}; the daemon wrote:\n{}", self.output()),
        }
    }
}

/// A loopback UDP socket for sending.
pub(crate) fn sender() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port")
}

/// Sends each of `payloads` as one datagram.
pub(crate) fn send<P: AsRef<[u8]>>(to: SocketAddr, payloads: impl IntoIterator<Item = P>) {
    let socket = sender();
    for payload in payloads {
        let payload = payload.as_ref();
        let sent = socket.send_to(payload, to).expect("loopback takes the datagram");
        assert_eq!(sent, payload.len(), "datagrams are sent whole");
    }
}
