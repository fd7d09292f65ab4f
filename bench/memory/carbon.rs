//! The witness at the other end: a carbon that keeps what the verdicts need, and forgets the rest.
//!
//! A million series make two million lines a second. Of the names of a bomb one bit each is kept, of
//! the known series a value per timestamp, of the others by their first component. A point that comes
//! twice counts once.

use std::collections::HashMap;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;

/// Points whose names begin so are kept, by name and timestamp.
const KEPT: [&[u8]; 4] =
    [b"stats_counts.known.", b"stats_counts.bomb.__", b"stats.timers.t.", b"stats.sets.s."];

/// What it was given.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    kept: HashMap<Box<[u8]>, HashMap<u64, f64>>,
    /// Counters of a bomb that came with a count, by number.
    pub(crate) counters: Seen,
    /// Gauges of a bomb, by number.
    pub(crate) gauges: Seen,
    /// Newest timestamp of a connection that ended well, s.
    pub(crate) newest_whole: u64,
    /// Lines in all.
    pub(crate) lines: u64,
    /// Lines that no carbon can read.
    pub(crate) bad_lines: u64,
}

/// Numbers that were seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    bits: Vec<u64>,
    /// How many different ones.
    pub(crate) count: u64,
    /// How many had a value other than one: none was sent.
    pub(crate) wrong: u64,
}

impl Seen {
    fn take(&mut self, number: u64, value: f64) {
        let (word, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64));
        // Nobody sends as many names.
        if 1 << 30 < word {
            self.wrong += 1;
            return;
        }
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.wrong += u64::from(value != 1.0);
        self.count += u64::from(self.bits[word] & bit == 0);
        self.bits[word] |= bit;
    }
}

impl Ledger {
    /// Takes a line without its newline; returns its timestamp.
    pub(crate) fn take(&mut self, line: &[u8]) -> u64 {
        self.lines += 1;
        let Some((name, value, time)) = point(line) else {
            self.bad_lines += 1;
            return 0;
        };
        if let Some(digits) = name.strip_prefix(b"stats_counts.bomb.n") {
            // A counter goes on as zero once its interval is over.
            if let Some(number) = number(digits)
                && value != 0.0
            {
                self.counters.take(number, value);
            }
        } else if let Some(digits) = name.strip_prefix(b"stats.gauges.bomb.g") {
            if let Some(number) = number(digits) {
                self.gauges.take(number, value);
            }
        } else if KEPT.iter().any(|prefix| name.starts_with(prefix)) {
            if !self.kept.contains_key(name) {
                self.kept.insert(name.into(), HashMap::new());
            }
            if let Some(series) = self.kept.get_mut(name) {
                series.insert(time, value);
            }
        }
        time
    }

    /// Values of the series `name` by timestamp.
    pub(crate) fn series(&self, name: &str) -> Vec<f64> {
        self.kept.get(name.as_bytes()).into_iter().flat_map(|of| of.values().copied()).collect()
    }

    /// Sum of the values of the series `name`.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.series(name).iter().sum()
    }
}

fn point(line: &[u8]) -> Option<(&[u8], f64, u64)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (name, value, time) = (fields.next()?, fields.next()?, fields.next()?);
    let is_point = fields.next().is_none() && !name.is_empty();
    // Most values of a bomb's counters.
    let value = match value {
        b"0" => 0.0,
        b"1" => 1.0,
        _ => std::str::from_utf8(value).ok()?.parse().ok()?,
    };
    is_point.then_some((name, value, number(time)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let is_short = !digits.is_empty() && digits.len() < 19;
    is_short.then(|| digits.iter().try_fold(0, |sum, byte| Some(10 * sum + digit(byte)?)))?
}

/// Takes connections until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Carbon {
    /// Its port on loopback.
    pub(crate) port: u16,
    ledger: Arc<Mutex<Ledger>>,
}

impl Carbon {
    /// Listens.
    ///
    /// # Errors
    /// The kernel's, when loopback has no port.
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let taking = Arc::clone(&ledger);
        std::thread::Builder::new().name("carbon".to_owned()).spawn(move || {
            for connection in listener.incoming().flatten() {
                let ledger = Arc::clone(&taking);
                let thread = std::thread::Builder::new().name("carbon".to_owned());
                // A connection that gets no thread is closed; the daemon comes again.
                thread.spawn(move || read(connection, &ledger)).ok();
            }
        })?;
        Ok(Self { port, ledger })
    }

    /// What it was given so far.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(mut connection: TcpStream, ledger: &Mutex<Ledger>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut filled, mut newest) = (0, 0);
    loop {
        let Ok(count) = connection.read(&mut buffer[filled..]) else { return };
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if count == 0 {
            ledger.newest_whole = ledger.newest_whole.max(newest);
            return;
        }
        filled += count;
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            newest = newest.max(ledger.take(&buffer[begin..end]));
            begin = end + 1;
        }
        drop(ledger);
        if begin == 0 && filled == buffer.len() {
            // A line that no carbon takes: its connection ends here, as it would there.
            return;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::compare::probe::wait_for;

    #[test]
    fn points_count_once_and_names_of_a_bomb_as_bits() {
        let mut ledger = Ledger::default();
        for line in [
            "stats_counts.bomb.n7 1 100",
            "stats_counts.bomb.n7 1 100",
            "stats_counts.bomb.n7 0 101",
            "stats_counts.bomb.n64 2 100",
            "stats.bomb.n8 1 100",
            "stats.gauges.bomb.g9 1 100",
            "stats.gauges.bomb.g9 1 101",
            "stats_counts.bomb.__overflow__ 5 100",
            "stats_counts.bomb.__overflow__ 5 100",
            "stats_counts.bomb.__overflow__ 6 101",
            "stats_counts.known.n1 3 100",
            "stats.statsd.numStats 3 100",
        ] {
            assert!(100 <= ledger.take(line.as_bytes()), "{line}");
        }
        assert_eq!((ledger.counters.count, ledger.counters.wrong), (2, 1));
        assert_eq!((ledger.gauges.count, ledger.gauges.wrong), (1, 0));
        assert_eq!(ledger.sum("stats_counts.bomb.__overflow__"), 11.0);
        assert_eq!(ledger.sum("stats_counts.known.n1"), 3.0);
        assert_eq!((ledger.lines, ledger.bad_lines), (12, 0));
        for line in ["", "a 1", "a b 1", "a 1 1.5", "a 1 1 1"] {
            assert_eq!(ledger.take(line.as_bytes()), 0, "{line}");
        }
        assert_eq!(ledger.bad_lines, 5);
    }

    #[test]
    fn a_connection_that_ends_well_makes_its_timestamps_whole() {
        let carbon = Carbon::start().unwrap();
        let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, carbon.port)).unwrap();
        for piece in ["stats.sets.s.cou", "nt 4 100\nstats.sets.s.count 5 ", "101\n"] {
            peer.write_all(piece.as_bytes()).unwrap();
        }
        drop(peer);
        wait_for("the points", || (carbon.ledger().newest_whole == 101).then_some(())).unwrap();
        assert_eq!(carbon.ledger().sum("stats.sets.s.count"), 9.0);
    }
}
