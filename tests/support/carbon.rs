//! A carbon that records what it is sent, text or pickle, and knows when a flush is over.
//!
//! It accepts any number of connections and answers nothing: like the real one it closes a
//! connection when the peer has closed its half. A flush is over when bytes have come and either
//! every connection is closed and quiet for a moment, or an open one has been quiet for longer
//! (the reference daemon keeps its connection open in some settings).

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wait;

const QUIET_CLOSED: Duration = Duration::from_millis(30);
const QUIET_OPEN: Duration = Duration::from_millis(150);

/// One received point; value and timestamp as the text that stood on the wire (text protocol) or
/// as the shortest decimal of the unpickled number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) time: String,
}

impl Point {
    pub(crate) fn number(&self) -> f64 {
        number(&self.value).unwrap_or_else(|| panic!("{} has no numeric value", self.name))
    }
}

/// How the bytes of a connection are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Text,
    Pickle,
}

/// The listening half of the fake.
pub(crate) struct RecordingCarbon {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Bytes not yet handed out, by connection in order of arrival.
    buffers: BTreeMap<u64, Vec<u8>>,
    open: u64,
    accepted: u64,
    last_change: Option<Instant>,
    is_closing: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, apply: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        apply(&mut inner);
        inner.last_change = Some(wait::now());
        self.changed.notify_all();
    }
}

impl RecordingCarbon {
    /// Listens on a port of the kernel's choice.
    pub(crate) fn start() -> Self {
        Self::start_on(0)
    }

    /// Listens on `port`.
    pub(crate) fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|error| panic!("recording carbon cannot bind {port}: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All bytes of the next flush, one item per connection; `None` if none ends within `bound`.
    pub(crate) fn next_flush(&self, bound: Duration) -> Option<Vec<Vec<u8>>> {
        let end = wait::now() + bound;
        let mut inner = self.state.lock();
        loop {
            let now = wait::now();
            let patience = if inner.buffers.is_empty() {
                if end <= now {
                    return None;
                }
                end - now
            } else {
                let quiet = inner.last_change.map_or(Duration::ZERO, |last| now - last);
                let needed = if inner.open == 0 { QUIET_CLOSED } else { QUIET_OPEN };
                if needed <= quiet {
                    return Some(std::mem::take(&mut inner.buffers).into_values().collect());
                }
                needed - quiet
            };
            inner = self
                .state
                .changed
                .wait_timeout(inner, patience)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(inner, _)| inner);
        }
    }

    /// Every point received and not handed out before. While somebody is connected the beginning of
    /// a line may be all of it that has come: it waits for its end.
    pub(crate) fn take_points(&self, protocol: Protocol) -> Vec<Point> {
        let mut inner = self.state.lock();
        let is_partial = 0 < inner.open && matches!(protocol, Protocol::Text);
        let taken: Vec<Vec<u8>> = if is_partial {
            let whole = |bytes: &mut Vec<u8>| {
                let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                bytes.drain(..end).collect()
            };
            inner
                .buffers
                .values_mut()
                .map(whole)
                .filter(|bytes: &Vec<u8>| !bytes.is_empty())
                .collect()
        } else {
            std::mem::take(&mut inner.buffers).into_values().collect()
        };
        inner.buffers.retain(|_, bytes| !bytes.is_empty());
        drop(inner);
        let mut points = Vec::new();
        for bytes in &taken {
            let (read, problems) = parse(protocol, bytes);
            assert!(problems.is_empty(), "carbon data unreadable: {problems:?}");
            points.extend(read);
        }
        points
    }

    /// As [`RecordingCarbon::take_points`] in text, where a sender may have died in the midst of a
    /// line: carbon ignores what no newline ends, and so does this.
    pub(crate) fn take_whole_lines(&self) -> Vec<Point> {
        let buffers = std::mem::take(&mut self.state.lock().buffers);
        let whole = buffers.values().flat_map(|bytes| {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            parse_text(&bytes[..end]).0
        });
        whole.collect()
    }

    /// Waits until points have come of which `is_enough` says yes; gives all of them, in order.
    pub(crate) fn wait_points(
        &self,
        what: &str,
        bound: Duration,
        protocol: Protocol,
        is_enough: impl Fn(&[Point]) -> bool,
    ) -> Vec<Point> {
        let mut points = Vec::new();
        let end = wait::now() + bound;
        while !is_enough(&points) {
            let left = end.saturating_duration_since(wait::now());
            let Some(chunks) = self.next_flush(left) else {
                panic!("waited {:.1} s in vain for {what}; came: {points:?}", bound.as_secs_f64());
            };
            for chunk in chunks {
                let (read, problems) = parse(protocol, &chunk);
                assert!(problems.is_empty(), "carbon data unreadable: {problems:?}");
                points.extend(read);
            }
        }
        points
    }

    /// Waits until every connection is closed: what was sent has been read in full.
    pub(crate) fn wait_idle(&self, bound: Duration) {
        wait::until("the connections to the recording carbon to close", bound, || {
            (self.state.lock().open == 0).then_some(())
        });
    }
}

impl Drop for RecordingCarbon {
    fn drop(&mut self) {
        self.state.lock().is_closing = true;
        // A last connection wakes the accept loop; where it fails, the loop has ended already.
        if let Ok(stream) = TcpStream::connect(self.address) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept() {
        let mut id = 0;
        if state.lock().is_closing {
            return;
        }
        state.change(|inner| {
            inner.accepted += 1;
            inner.open += 1;
            id = inner.accepted;
        });
        let state = Arc::clone(state);
        std::thread::spawn(move || record(stream, id, &state));
    }
}

fn record(mut stream: TcpStream, id: u64, state: &State) {
    let mut chunk = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        state.change(|inner| {
            inner.buffers.entry(id).or_default().extend_from_slice(&chunk[..length]);
        });
    }
    drop(stream);
    state.change(|inner| inner.open -= 1);
}

/// Reads the bytes of one connection: the points, and what is wrong with the rest.
pub(crate) fn parse(protocol: Protocol, bytes: &[u8]) -> (Vec<Point>, Vec<String>) {
    match protocol {
        Protocol::Text => parse_text(bytes),
        Protocol::Pickle => parse_pickle(bytes),
    }
}

fn parse_text(bytes: &[u8]) -> (Vec<Point>, Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    let (mut points, mut problems) = (Vec::new(), Vec::new());
    if !text.ends_with('\n') {
        problems.push("carbon data does not end with a newline".to_owned());
    }
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        let mut fields = line.rsplitn(3, ' ');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(time), Some(value), Some(name)) => points.push(Point {
                name: name.to_owned(),
                value: value.to_owned(),
                time: time.to_owned(),
            }),
            _ => problems.push(format!("carbon line without three fields: {line:?}")),
        }
    }
    (points, problems)
}

fn parse_pickle(mut bytes: &[u8]) -> (Vec<Point>, Vec<String>) {
    let (mut points, mut problems) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*header)).expect("64-bit machine");
        let Some((frame, rest)) = rest.split_at_checked(length) else {
            problems.push(format!("pickle frame of {length} bytes cut short at {}", rest.len()));
            return (points, problems);
        };
        bytes = rest;
        let options = serde_pickle::DeOptions::new().decode_strings();
        match serde_pickle::from_slice::<Vec<(String, (Scalar, Scalar))>>(frame, options) {
            Ok(entries) => points.extend(entries.into_iter().map(|(name, (time, value))| Point {
                name,
                value: value.text(),
                time: time.text(),
            })),
            Err(error) => problems.push(format!("pickle payload not readable: {error}")),
        }
    }
    if !bytes.is_empty() {
        problems.push("pickle frame header cut short".to_owned());
    }
    (points, problems)
}

/// A number as carbon takes it from a pickle: integer, float, or either as text.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

/// The values of `name` by timestamp, added up where a timestamp came more than once.
pub(crate) fn series(points: &[Point], name: &str) -> BTreeMap<u64, f64> {
    let mut series = BTreeMap::new();
    for point in points.iter().filter(|point| point.name == name) {
        let time = point.time.parse().expect("timestamps are whole seconds");
        *series.entry(time).or_default() += point.number();
    }
    series
}

/// The values of `name` by timestamp, however often each has come.
///
/// # Panics
/// If a timestamp came with two values: whisper would keep one of them.
pub(crate) fn settled(points: &[Point], name: &str) -> BTreeMap<u64, f64> {
    let mut series = BTreeMap::new();
    for point in points.iter().filter(|point| point.name == name) {
        let time: u64 = point.time.parse().expect("timestamps are whole seconds");
        let before = series.insert(time, point.number());
        assert!(before.is_none_or(|before| before == point.number()), "{name} at {time}");
    }
    series
}

/// A number as JavaScript prints it, so `Infinity` and `NaN` read too.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}
