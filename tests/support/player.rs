//! Plays a situation on a daemon and says what was seen.
//!
//! The same code plays for the recorder, on the reference daemon, and for the test, on floe: what is
//! compared was seen with the same eyes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value};

use super::carbon::{self, Protocol, RecordingCarbon};
use super::config_js::{Style, write_config};
use super::daemon::{Daemon, Ingest, Launch};
use super::situation::{Act, Exit, Flush, Reply, Situation};
use super::{hex, ports, wait};

/// Longest wait for what is not a flush.
const BOUND: Duration = Duration::from_secs(8);

/// A reply is over when nothing came for so long.
const QUIET: Duration = Duration::from_millis(200);

/// Between two writes into one stream, so that they are two reads.
const APART: Duration = Duration::from_millis(60);

/// Parts of names whose values depend on the clock.
const CLOCKED: [&str; 6] = [
    "calculationtime",
    "processing_time",
    "flush_time",
    "flush_length",
    "last_flush",
    "timestamp_lag",
];

/// What a daemon says when it has looked at its configuration again.
const NOTICED: [&str; 5] = [
    "reading config file",
    "configuration applied",
    "configuration refused",
    "configuration needs a restart",
    "nothing has changed",
];

/// A daemon on the stage.
struct Stage {
    folder: tempfile::TempDir,
    places: BTreeMap<&'static str, Value>,
    style: Style,
    carbon: RecordingCarbon,
    behind_carbon: Option<RecordingCarbon>,
    sink: Option<Sink>,
    daemon: Daemon,
    _behind: Option<Daemon>,
    streams: BTreeMap<String, Stream>,
    console: Option<TcpStream>,
    flush_bound: Duration,
    /// Bound for as long as the situation lasts.
    _taken: Vec<Taken>,
}

/// What a client sends through.
enum Stream {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Writes, and waits until that will be read apart from what follows.
    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        match self {
            // The reference reads slower than we send.
            Self::Udp(socket) => socket.send(data).map(|_| wait::pause(Duration::from_millis(3))),
            Self::Tcp(stream) => stream.write_all(data).map(|()| wait::pause(APART)),
            Self::Unix(stream) => stream.write_all(data).map(|()| wait::pause(APART)),
        }
    }

    /// Ends with a reset, once what was written has been read.
    fn reset(self) {
        if let Self::Tcp(stream) = self {
            let at_once = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&stream, at_once).expect("a socket of ours");
        }
    }
}

/// A port that the daemon does not get.
enum Taken {
    Udp(#[expect(dead_code, reason = "held for its port")] UdpSocket),
    Tcp(#[expect(dead_code, reason = "held for its port")] TcpListener),
}

/// Plays `situation`; gives the same with what was seen this time, and what went wrong.
pub(crate) fn play(
    situation: &Situation,
    ingest: Ingest,
    style: Style,
) -> (Situation, Vec<String>) {
    let mut stage = Stage::set(situation, ingest, style);
    let mut played = situation.clone();
    let mut problems = Vec::new();
    if !situation.ends_at_start
        && let Some(mgmt) = stage.places["$MGMT"].as_u64()
    {
        stage.daemon.wait_listening(u16::try_from(mgmt).expect("a port"));
    }
    for (index, act) in played.play.iter_mut().enumerate() {
        if let Err(problem) = stage.act(act) {
            problems.push(format!("act {}: {problem}\n{}", index + 1, stage.daemon.output()));
            break;
        }
    }
    (played, problems)
}

impl Stage {
    fn set(situation: &Situation, ingest: Ingest, style: Style) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let (carbon, behind_carbon) = (RecordingCarbon::start(), RecordingCarbon::start());
        let kind = situation.play.iter().find_map(|act| match act {
            Act::Sink { kind, .. } => Some(kind.as_str()),
            _ => None,
        });
        let sink = kind.map(Sink::start);
        let socket = folder.path().join("s.sock").display().to_string();
        let sink_port = sink.as_ref().map_or(0, |sink| sink.port);
        let places: BTreeMap<&str, Value> = BTreeMap::from([
            ("$PORT", ports::free().into()),
            ("$PORT2", ports::free().into()),
            ("$MGMT", ports::free().into()),
            ("$MGMT2", ports::free().into()),
            ("$CARBON", carbon.port().into()),
            ("$CARBON2", behind_carbon.port().into()),
            ("$SINK", sink_port.into()),
            ("$SOCKET", socket.into()),
            ("$DIR", folder.path().display().to_string().into()),
        ]);
        if situation.stale_socket {
            let path = places["$SOCKET"].as_str().expect("a path");
            drop(UnixListener::bind(path).expect("the test's folder is writable"));
        }
        let taken = situation.taken.iter().map(|taken| take(taken, &places)).collect();
        let behind = situation.behind.as_ref().map(|config| {
            let config = effective(config, &places, ("$PORT2", "$MGMT2", "$CARBON2"));
            let path = folder.path().join("behind");
            std::fs::create_dir(&path).expect("the test's folder is writable");
            let text = write_config(&config, style);
            let port = places["$MGMT2"].as_u64().and_then(|port| port.try_into().ok());
            Launch::under(&path, ingest).config("config.js", &text).start_on(port.expect("a port"))
        });
        let config = effective(&situation.config, &places, ("$PORT", "$MGMT", "$CARBON"));
        let text = situation.text.as_ref().map(|text| fill_text(text, &places));
        let text = text.unwrap_or_else(|| write_config(&config, style));
        let flush_ms = config
            .get("flushInterval")
            .and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
        let flush_s = flush_ms.unwrap_or(10_000.0) / 1_000.0;
        let daemon = Launch::under(folder.path(), ingest).config("config.js", &text).spawn();
        Self {
            folder,
            places,
            style,
            carbon,
            behind_carbon: Some(behind_carbon).filter(|_| situation.behind.is_some()),
            sink,
            daemon,
            _behind: behind,
            streams: BTreeMap::new(),
            console: None,
            flush_bound: Duration::from_secs(4) + Duration::from_secs_f64(2.6 * flush_s),
            _taken: taken,
        }
    }

    fn port(&self, place: &str) -> u16 {
        let port = self.places[place].as_u64().expect("a port");
        u16::try_from(port).expect("a port")
    }

    fn act(&mut self, act: &mut Act) -> Result<(), String> {
        match act {
            Act::Pause { ms } => {
                wait::pause(Duration::from_millis(*ms));
                Ok(())
            }
            Act::Send { via, data, conn, close, reset } => {
                let via = via.as_deref().unwrap_or("udp").to_owned();
                data.iter().try_for_each(|data| self.send(&via, *conn, &bytes_of(data)))?;
                if *close || *reset {
                    let stream = self.streams.remove(&stream_key(&via, *conn));
                    if *reset {
                        stream.ok_or("nothing to reset")?.reset();
                    }
                }
                Ok(())
            }
            Act::Flush { of, seen } => {
                *seen = Some(self.flush(of.is_some())?);
                Ok(())
            }
            Act::Ask { text, anew, seen, .. } => {
                *seen = Some(self.ask(text, *anew)?);
                Ok(())
            }
            Act::Rewrite { config, text } => {
                self.rewrite(config.as_ref(), text.as_deref());
                Ok(())
            }
            Act::Signal { name } => {
                self.daemon.signal(signal_of(name)?);
                Ok(())
            }
            Act::Exit { seen } => {
                let status = wait::try_until(BOUND, || self.daemon.exited());
                let status = status.ok_or("the daemon goes on")?;
                *seen = Some(match status.code() {
                    Some(0) => Exit::Well,
                    Some(_) => Exit::Failed,
                    None => Exit::Signalled,
                });
                Ok(())
            }
            Act::Rows { file, rows, seen } => {
                *seen = Some(self.rows(file, *rows)?);
                Ok(())
            }
            Act::Sink { count, seen, .. } => {
                let sink = self.sink.as_ref().ok_or("no sink")?;
                *seen = Some(sink.take(*count)?);
                Ok(())
            }
            Act::Print { with, seen } => {
                *seen = Some(self.print(with)?);
                Ok(())
            }
            Act::Title { seen } => {
                let path = format!("/proc/{}/cmdline", self.daemon.id());
                let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
                let folder = self.folder.path().display().to_string();
                // The arguments behind the file are those of the test.
                let end = text.find("config.js").map_or(text.len(), |at| at + "config.js".len());
                *seen = Some(text[..end].trim().replace(&folder, "$DIR"));
                Ok(())
            }
        }
    }

    /// Sends over the client's one socket or connection: what one client sends keeps its order.
    fn send(&mut self, via: &str, conn: Option<u32>, data: &[u8]) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot send via {via}: {error}");
        let key = stream_key(via, conn);
        if !self.streams.contains_key(&key) {
            let stream = wait::try_until(BOUND, || self.connect(via).ok());
            let stream = stream.ok_or(format!("cannot connect via {via}"))?;
            self.streams.insert(key.clone(), stream);
        }
        self.streams.get_mut(&key).ok_or("just connected")?.write(data).map_err(failed)
    }

    fn connect(&self, via: &str) -> std::io::Result<Stream> {
        let place = if via.ends_with('2') { "$PORT2" } else { "$PORT" };
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(place)));
        match via {
            "unix" => {
                let path = self.places["$SOCKET"].as_str().expect("a path");
                UnixStream::connect(path).map(Stream::Unix)
            }
            "udp6" => {
                let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
                socket.connect((Ipv6Addr::LOCALHOST, to.port()))?;
                Ok(Stream::Udp(socket))
            }
            _ if via.starts_with("udp") => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect(to)?;
                Ok(Stream::Udp(socket))
            }
            _ => {
                let stream = TcpStream::connect(to)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    fn flush(&self, is_behind: bool) -> Result<Flush, String> {
        let carbon = if is_behind { self.behind_carbon.as_ref() } else { Some(&self.carbon) };
        let carbon = carbon.ok_or("there is no second daemon")?;
        let chunks = carbon.next_flush(self.flush_bound).ok_or("no flush arrived")?;
        let mut flush = Flush::default();
        for chunk in chunks {
            let is_pickle = chunk.first() == Some(&0);
            let protocol = if is_pickle { Protocol::Pickle } else { Protocol::Text };
            let (points, problems) = carbon::parse(protocol, &chunk);
            if !problems.is_empty() {
                return Err(format!("{problems:?}"));
            }
            for point in points {
                if CLOCKED.iter().any(|part| point.name.contains(part)) {
                    flush.names.push(point.name);
                } else {
                    flush.lines.push(format!("{} {}", point.name, point.value));
                }
            }
        }
        flush.lines.sort();
        flush.names.sort();
        Ok(flush)
    }

    fn ask(&mut self, text: &str, anew: bool) -> Result<Reply, String> {
        let failed = |error: std::io::Error| format!("the console failed: {error}");
        let mut stream = match self.console.take().filter(|_| !anew) {
            Some(stream) => stream,
            None => {
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.port("$MGMT"))).map_err(failed)?
            }
        };
        stream.write_all(text.as_bytes()).map_err(failed)?;
        let (mut reply, mut closes) = (Vec::new(), false);
        // A first byte may take a while; a command without a reply is known by its silence.
        let first = if text.trim() == "quit" { QUIET } else { Duration::from_secs(3) };
        stream.set_read_timeout(Some(first)).map_err(failed)?;
        let mut chunk = [0; 65_536];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => {
                    closes = true;
                    break;
                }
                Ok(len) => reply.extend_from_slice(&chunk[..len]),
                Err(_) => break,
            }
            stream.set_read_timeout(Some(QUIET)).map_err(failed)?;
        }
        if !closes {
            self.console = Some(stream);
        }
        let text = self.without_places(&String::from_utf8_lossy(&reply));
        Ok(Reply { text, closes })
    }

    /// Ports and paths of this run as their places, longest first.
    fn without_places(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut places: Vec<(&str, String)> = self
            .places
            .iter()
            .map(|(place, value)| (*place, value.as_str().map_or(value.to_string(), str::to_owned)))
            .filter(|(_, value)| value != "0")
            .collect();
        places.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (place, value) in places {
            text = text.replace(&value, place);
        }
        text
    }

    fn rewrite(&self, config: Option<&Map<String, Value>>, text: Option<&str>) {
        let text = match (config, text) {
            (Some(config), _) => {
                let config = effective(config, &self.places, ("$PORT", "$MGMT", "$CARBON"));
                write_config(&config, self.style)
            }
            (None, text) => fill_text(text.unwrap_or_default(), &self.places),
        };
        let noticed = || -> usize {
            let output = self.daemon.output();
            NOTICED.iter().map(|word| output.matches(word).count()).sum()
        };
        let before = noticed();
        let path = self.folder.path().join("config.js");
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            // Not every daemon has a word to say about it.
            std::fs::write(&path, text).expect("the test's folder is writable");
            return wait::pause(Duration::from_millis(400));
        }
        std::fs::write(&path, text).expect("the test's folder is writable");
        wait::try_until(Duration::from_secs(3), || (before < noticed()).then_some(()));
        // The reference says that it reads, and then reads.
        wait::pause(Duration::from_millis(100));
    }

    fn rows(&self, file: &str, rows: usize) -> Result<Vec<String>, String> {
        let path = self.folder.path().join(file);
        let text = wait::try_until(BOUND, || {
            let text = std::fs::read_to_string(&path).ok()?;
            (rows <= text.lines().count()).then_some(text)
        });
        let text = text.ok_or(format!("{file} has fewer than {rows} rows"))?;
        let undated = |row: &str| match row.find("count=") {
            Some(at) => format!("<date> {}", &row[at..]),
            None => row.to_owned(),
        };
        Ok(text.lines().take(rows).map(undated).collect())
    }

    /// Lines of the printed flush, sorted: the order of keys within a table is not compared.
    fn print(&self, with: &str) -> Result<Vec<String>, String> {
        let printed = wait::try_until(self.flush_bound, || {
            let output = self.daemon.output();
            let mut flushes = output.split("Flushing stats at  ").skip(1);
            let flush = flushes.find(|flush| flush.contains(with))?;
            let (date, rest) = flush.split_once('\n')?;
            let end = rest.find("\n}\n")?;
            date.contains("GMT").then(|| rest[..end].to_owned())
        });
        let printed = printed.ok_or(format!("no flush with {with} was printed"))?;
        Ok(printed.lines().map(str::to_owned).collect())
    }
}

/// Where a repeater sends to.
struct Sink {
    port: u16,
    kind: String,
    items: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Sink {
    fn start(kind: &str) -> Self {
        let items = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&items);
        let keep = move |bytes: &[u8]| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(bytes.to_vec());
        };
        let port = if kind == "tcp" {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let (mut connection, keep) = (connection.expect("accepted"), keep.clone());
                    std::thread::spawn(move || {
                        let mut chunk = [0; 65_536];
                        while let Ok(len @ 1..) = connection.read(&mut chunk) {
                            keep(&chunk[..len]);
                        }
                    });
                }
            });
            port
        } else {
            let socket = if kind == "udp6" {
                UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
            } else {
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            };
            let socket = socket.expect("a free port");
            let port = socket.local_addr().expect("it is bound").port();
            std::thread::spawn(move || {
                let mut chunk = [0; 65_536];
                while let Ok(len) = socket.recv(&mut chunk) {
                    keep(&chunk[..len]);
                }
            });
            port
        };
        Self { port, kind: kind.to_owned(), items }
    }

    /// The first `count` datagrams, or all bytes of the connections joined, in hexadecimal.
    fn take(&self, count: usize) -> Result<Vec<String>, String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let items = || self.items.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.kind == "tcp" {
            // What comes comes within a moment.
            wait::pause(Duration::from_millis(500));
            return Ok(vec![hex(&items().concat())]);
        }
        let seen = wait::try_until(BOUND, || Some(items()).filter(|items| count <= items.len()));
        let seen = seen.ok_or(format!("the sink has {} of {count}", items().len()))?;
        Ok(seen.iter().map(|item| hex(item)).collect())
    }
}

/// Binds `udp:$PORT` or `tcp:$PORT` before the daemon does.
fn take(taken: &str, places: &BTreeMap<&'static str, Value>) -> Taken {
    let (kind, place) = taken.split_once(':').expect("a kind and a place");
    let port = u16::try_from(places[place].as_u64().expect("a port")).expect("a port");
    let local = (Ipv4Addr::LOCALHOST, port);
    if kind == "udp" {
        Taken::Udp(UdpSocket::bind(local).expect("it was free"))
    } else {
        Taken::Tcp(TcpListener::bind(local).expect("it was free"))
    }
}

fn signal_of(name: &str) -> Result<Signal, String> {
    match name {
        "TERM" => Ok(Signal::TERM),
        "INT" => Ok(Signal::INT),
        "HUP" => Ok(Signal::HUP),
        other => Err(format!("no signal {other}")),
    }
}

fn stream_key(via: &str, conn: Option<u32>) -> String {
    format!("{via}{}", conn.unwrap_or(0))
}

fn bytes_of(data: &str) -> Vec<u8> {
    match data.strip_prefix("hex:") {
        Some(digits) => hex::bytes(digits),
        None => data.as_bytes().to_vec(),
    }
}

/// The settings of a situation over the ones every one has.
fn effective(
    own: &Map<String, Value>,
    places: &BTreeMap<&'static str, Value>,
    (port, mgmt, carbon): (&str, &str, &str),
) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("graphitePort".to_owned(), places[carbon].clone());
    config.insert("graphitePicklePort".to_owned(), places[carbon].clone());
    config.insert("graphiteHost".to_owned(), "127.0.0.1".into());
    config.insert("address".to_owned(), "127.0.0.1".into());
    config.insert("port".to_owned(), places[port].clone());
    config.insert("mgmt_address".to_owned(), "127.0.0.1".into());
    config.insert("mgmt_port".to_owned(), places[mgmt].clone());
    config.insert("backends".to_owned(), vec!["./backends/graphite"].into());
    for (key, value) in own {
        config.insert(key.clone(), fill(value, places));
    }
    config.retain(|_, value| value != "$ABSENT");
    config
}

fn fill(value: &Value, places: &BTreeMap<&'static str, Value>) -> Value {
    match value {
        Value::String(text) => match places.get(text.as_str()) {
            Some(value) => value.clone(),
            None => fill_text(text, places).into(),
        },
        Value::Array(items) => items.iter().map(|item| fill(item, places)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), fill(item, places))).collect())
        }
        other => other.clone(),
    }
}

fn fill_text(text: &str, places: &BTreeMap<&'static str, Value>) -> String {
    let mut text = text.to_owned();
    // `$PORT2` before `$PORT`.
    for (place, value) in places.iter().rev() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text = text.replace(place, &value);
    }
    text
}
