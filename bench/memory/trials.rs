//! The trials: a bomb of names, times of one name, members of one set, at full size or a part of it.

use std::io::Write;
use std::path::Path;

use super::record::Check;
use super::sender::{Sent, send};
use super::subject::{Figures, Subject};
use crate::faults::world::whole;

/// One trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    /// Its name on the command line and in records.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    /// Does it at a part of the full size.
    pub(crate) run: fn(&Path, f64) -> anyhow::Result<Vec<Check>>,
}

/// All of them.
pub(crate) const TRIALS: [Trial; 3] = [
    Trial {
        name: "names",
        what: "20 million new names in 60 s, a gauge in eight, beside 10,000 series that go on",
        run: names,
    },
    Trial {
        name: "times",
        what: "200 million times of one name in each of two intervals",
        run: times,
    },
    Trial { name: "members", what: "50 million members of 200 bytes of one set", run: members },
];

/// Series that are there before the bomb.
const KNOWN: u64 = 10_000;

/// New names, and how many of them come in a second.
const NAMES: f64 = 20e6;
const NAMES_PER_S: f64 = 20e6 / 60.0;

/// Of so many new names one is a gauge.
const GAUGE_EACH: u64 = 8;

/// Behind so many new names comes a line of a known series: each of them once in 0.96 s.
const KNOWN_EACH: u64 = 32;

/// Bytes of a datagram of names: what a path of 1,500 bytes takes.
const DATAGRAM_BYTES: usize = 1_400;

/// Times of one interval, and how many come in a second.
const TIMES: f64 = 200e6;
const TIMES_PER_S: u64 = 10_000_000;

/// Times of one datagram: each of the values from 1 on once.
const TIMES_EACH: u64 = 1_000;

/// Intervals full of times.
const TIMES_INTERVALS: u64 = 2;

/// Members, their bytes, how many come in a second and in a datagram.
const MEMBERS: f64 = 50e6;
const MEMBER_BYTES: usize = 200;
const MEMBERS_PER_S: u64 = 2_000_000;
const MEMBERS_EACH: u64 = 43;

/// Interval of the trials of one name, s: what is sent in one comes in 20 to 25 s.
const LONG_INTERVAL_S: f64 = 30.0;

/// A percentile of a sketch is off by so much at the most.
const PERCENTILE_ERROR_MAX: f64 = 0.01;

/// The size of a set is off by so much at the most.
const SET_ERROR_MAX: f64 = 0.02;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of trials are far below 2^53"
)]
fn part(of: f64, scale: f64) -> u64 {
    (of * scale).round().max(1.0) as u64
}

fn interval_s(scale: f64) -> u64 {
    part(LONG_INTERVAL_S, scale)
}

/// A bomb: what it has sent so far.
#[derive(Debug, Default)]
struct Bomb {
    names: u64,
    counters: u64,
    gauges: u64,
    known: u64,
}

impl Bomb {
    /// Fills a datagram, up to `most` names in all; returns its lines.
    fn compose(&mut self, most: u64, datagram: &mut Vec<u8>) -> u64 {
        let before = self.names + self.known;
        while self.names < most && datagram.len() < DATAGRAM_BYTES {
            let number = self.names;
            let written = if number % GAUGE_EACH == GAUGE_EACH - 1 {
                self.gauges += 1;
                writeln!(datagram, "bomb.g{number}:1|g")
            } else {
                self.counters += 1;
                writeln!(datagram, "bomb.n{number}:1|c")
            };
            written.expect("writing to a vector does not fail");
            self.names += 1;
            if self.names.is_multiple_of(KNOWN_EACH) {
                self.known_line(datagram);
            }
        }
        self.names + self.known - before
    }

    fn known_line(&mut self, datagram: &mut Vec<u8>) {
        let number = self.known % KNOWN;
        writeln!(datagram, "known.n{number}:1|c").expect("writing to a vector does not fail");
        self.known += 1;
    }

    /// Lines of known series `number`, all together.
    fn known_lines(&self, number: u64) -> u64 {
        self.known / KNOWN + u64::from(number < self.known % KNOWN)
    }
}

fn names(floe: &Path, scale: f64) -> anyhow::Result<Vec<Check>> {
    let mut subject = Subject::start(floe, "names", 1)?;
    let mut bomb = Bomb::default();
    let mut sent = send(subject.port, KNOWN, |datagram| {
        while bomb.known < KNOWN && datagram.len() < DATAGRAM_BYTES {
            bomb.known_line(datagram);
        }
        datagram.iter().filter(|byte| **byte == b'\n').count() as u64
    })?;
    subject.settle()?;
    let most = part(NAMES, scale);
    let per_s = part(NAMES_PER_S, 1.0 + 1.0 / KNOWN_EACH as f64);
    let flood = send(subject.port, per_s, |datagram| bomb.compose(most, datagram))?;
    sent.datagrams += flood.datagrams;
    sent.lines += flood.lines;
    subject.settle()?;
    let figures = subject.figures()?;
    let mut checks = vec![
        offered(&bomb.names, "names", flood),
        Check::equal("datagrams dropped at the socket, by the kernel", figures.socket.drops, 0),
    ];
    checks.extend(known(&subject, &bomb));
    checks.extend(folded(&subject, &bomb, &figures));
    checks.extend(common(&subject, &figures, sent));
    checks.extend(subject.stop()?.map(|end| Check::broken("end", end)));
    Ok(checks)
}

fn offered(count: &u64, what: &str, sent: Sent) -> Check {
    let seconds = sent.ns as f64 / 1e9;
    Check::said(
        "offered",
        format!("{count} {what} in {seconds:.1} s, {} datagrams", sent.datagrams),
    )
}

/// What the carbon has of the series that were there before.
fn known(subject: &Subject, bomb: &Bomb) -> Vec<Check> {
    let ledger = subject.carbon.ledger();
    let of = |number: u64| ledger.sum(&format!("stats_counts.known.n{number}"));
    let exact = (0..KNOWN).filter(|number| of(*number) == bomb.known_lines(*number) as f64);
    let sum: f64 = (0..KNOWN).map(of).sum();
    vec![
        Check::equal("known series that are exact at carbon", exact.count() as u64, KNOWN),
        Check::equal("their lines at carbon, and as sent", whole(sum), bomb.known),
    ]
}

/// What the carbon has of the new names, beside what floe says it folded and dropped.
fn folded(subject: &Subject, bomb: &Bomb, figures: &Figures) -> Vec<Check> {
    let ledger = subject.carbon.ledger();
    let folded = whole(ledger.sum("stats_counts.bomb.__overflow__"));
    let (own, gauges) = (ledger.counters.count, ledger.gauges.count);
    let books = &figures.books;
    vec![
        Check::said("new names that got a series", format!("{own} counters, {gauges} gauges")),
        Check::equal("counts at carbon, folded ones too, and as sent", own + folded, bomb.counters),
        // Each name came once, so that a series that is folded or dropped at a flip is a value.
        Check::equal(
            "folded by workers and at flips: floe's books; at carbon",
            books.count("values_folded") + books.count("series_folded"),
            folded,
        ),
        Check::equal(
            "gauges dropped by workers and at flips: floe's books; carbon lacks",
            books.count("values_dropped.series_limit") + books.count("series_dropped"),
            bomb.gauges.saturating_sub(gauges),
        ),
        Check::equal(
            "new series with a value nobody sent",
            ledger.counters.wrong + ledger.gauges.wrong,
            0,
        ),
    ]
}

fn times(floe: &Path, scale: f64) -> anyhow::Result<Vec<Check>> {
    let mut subject = Subject::start(floe, "times", interval_s(scale))?;
    let mut datagram = Vec::new();
    for value in 1..=TIMES_EACH {
        writeln!(datagram, "t:{value}|ms")?;
    }
    let most = part(TIMES / TIMES_EACH as f64, scale);
    let mut sent = Sent::default();
    let mut checks = Vec::new();
    for _ in 0..TIMES_INTERVALS {
        subject.wait_for_grid()?;
        let mut left = most;
        let flood = send(subject.port, TIMES_PER_S, |to| {
            if left == 0 {
                return 0;
            }
            left -= 1;
            to.extend_from_slice(&datagram);
            TIMES_EACH
        })?;
        checks.push(offered(&flood.lines, "times", flood));
        sent.datagrams += flood.datagrams;
        sent.lines += flood.lines;
    }
    subject.settle()?;
    let figures = subject.figures()?;
    checks.extend(counted(&subject, &figures, sent));
    checks.extend(common(&subject, &figures, sent));
    checks.extend(subject.stop()?.map(|end| Check::broken("end", end)));
    Ok(checks)
}

/// What the carbon has of the timer: all that the kernel let through, in count, sum and percentile.
fn counted(subject: &Subject, figures: &Figures, sent: Sent) -> Vec<Check> {
    let ledger = subject.carbon.ledger();
    let datagrams = sent.datagrams - figures.socket.drops.min(sent.datagrams);
    let of = |what: &str| whole(ledger.sum(&format!("stats.timers.t.{what}")));
    let percentiles = ledger.series("stats.timers.t.upper_90");
    // All values are equally often, so that this one is nine tenths of the largest.
    let wanted = TIMES_EACH as f64 * 0.9;
    let error = |upper: &f64| (upper / wanted - 1.0).abs();
    let error = percentiles.iter().filter(|upper| 0.0 < **upper).map(error).fold(0.0, f64::max);
    let most = ledger.series("stats.timers.t.count").into_iter().fold(0.0, f64::max);
    vec![
        Check::said("most times of one interval", format!("{most}")),
        Check::equal("count at carbon, and as sent", of("count"), datagrams * TIMES_EACH),
        Check::equal(
            "sum at carbon, and as sent",
            of("sum"),
            datagrams * (TIMES_EACH * (TIMES_EACH + 1) / 2),
        ),
        Check::below("upper_90 is off by, %", error * 100.0, PERCENTILE_ERROR_MAX * 100.0),
        Check::equal("times dropped by floe", figures.books.count("values_dropped.timer_limit"), 0),
    ]
}

fn members(floe: &Path, scale: f64) -> anyhow::Result<Vec<Check>> {
    let mut subject = Subject::start(floe, "members", interval_s(scale))?;
    subject.wait_for_grid()?;
    let most = part(MEMBERS, scale);
    let tail = "m".repeat(MEMBER_BYTES - 10);
    let mut number = 0_u64;
    let sent = send(subject.port, MEMBERS_PER_S, |datagram| {
        let end = (number + MEMBERS_EACH).min(most);
        let lines = end - number;
        for member in number..end {
            writeln!(datagram, "s:{member:010}{tail}|s")
                .expect("writing to a vector does not fail");
        }
        number = end;
        lines
    })?;
    subject.settle()?;
    let figures = subject.figures()?;
    let found = subject.carbon.ledger().sum("stats.sets.s.count");
    let lost = figures.socket.drops * MEMBERS_EACH;
    let error = (found / most.saturating_sub(lost) as f64 - 1.0).abs() * 100.0;
    let mut checks = vec![
        offered(&sent.lines, "members", sent),
        Check::said("members at carbon", format!("{found}")),
        Check::below("the set is off by, %", error, SET_ERROR_MAX * 100.0),
        Check::equal("members dropped by floe", figures.books.count("values_dropped.set_limit"), 0),
    ];
    checks.extend(common(&subject, &figures, sent));
    checks.extend(subject.stop()?.map(|end| Check::broken("end", end)));
    Ok(checks)
}

/// What every trial has to keep.
fn common(subject: &Subject, figures: &Figures, sent: Sent) -> Vec<Check> {
    let Figures { socket, resident_bytes, group, books, flushes } = figures;
    let told = books.count("datagrams_received") + books.count("datagrams_dropped.kernel");
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let ledger = subject.carbon.ledger();
    let mut checks = vec![
        Check::equal(
            "dropped at the socket: floe's books, and the kernel",
            books.count("datagrams_dropped.kernel"),
            socket.drops,
        ),
        Check::equal("datagrams received or dropped: floe's books, and sent", told, sent.datagrams),
        Check::equal(
            "identities of the books that do not hold",
            books.broken.len() as u64 + books.count("accounting_broken"),
            0,
        ),
        Check::equal("lines no carbon can read", ledger.bad_lines, 0),
        Check::below(
            "peak of resident memory and the ceiling, MiB",
            mib(*resident_bytes) as f64,
            subject.ceiling_mib as f64,
        ),
    ];
    drop(ledger);
    match group {
        Ok(found) => {
            let peak =
                found.peak_bytes.map_or("not told".to_owned(), |b| format!("{} MiB", mib(b)));
            let limit = subject.limit_mib();
            checks.push(Check::equal("OOM kills, by the kernel", found.oom_kills, 0));
            checks.push(Check::said(
                "the cgroup's peak, with the page cache of the spool",
                format!("{peak} of {limit} MiB"),
            ));
        }
        Err(reason) => checks.push(Check::not_shown("OOM kills, by the kernel", reason)),
    }
    let merged = books.count("ticks_merged");
    checks.push(Check::equal("intervals merged or without a segment", merged + flushes.missing, 0));
    checks.push(Check::below(
        "latest flush on the disk behind its grid point, ms",
        flushes.late_ms,
        subject.interval_s as f64 * 1e3,
    ));
    checks.push(Check::said("flushes", flushes.count.to_string()));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_knows_what_it_has_sent() {
        let mut bomb = Bomb::default();
        let (mut lines, mut text) = (0, Vec::new());
        loop {
            let mut datagram = Vec::new();
            match bomb.compose(1_000, &mut datagram) {
                0 => break,
                count => lines += count,
            }
            assert!(datagram.len() < DATAGRAM_BYTES + 64);
            text.extend_from_slice(&datagram);
        }
        let text = String::from_utf8(text).unwrap();
        let of = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count() as u64;
        assert_eq!((bomb.names, bomb.counters, bomb.gauges, bomb.known), (1_000, 875, 125, 31));
        assert_eq!((of("bomb.n"), of("bomb.g"), of("known.n")), (875, 125, 31));
        assert_eq!((lines, text.lines().count()), (1_031, 1_031));
        assert_eq!((bomb.known_lines(30), bomb.known_lines(31)), (1, 0));
    }

    #[test]
    fn trials_shrink_with_their_scale() {
        assert_eq!((part(NAMES, 1.0), part(NAMES, 1e-3)), (20_000_000, 20_000));
        assert_eq!((interval_s(1.0), interval_s(1e-6)), (30, 1));
    }
}
