//! What `floe top` is told, as lines: one a count, then one an entry, fields between tabs.
//!
//! Everything from outside is escaped where the report is made, so that it holds neither tabs nor line
//! ends, nor anything that a terminal could take for its own.

use std::fmt::{self, Write as _};

use floe_core::limits::TOP_BATCHES_EACH;

/// One entry of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `prefixes`, `names` or `senders`.
    pub of: String,
    /// `lines`, `new` or `bad`.
    pub by: String,
    /// How often among the samples, at the least.
    pub count: u64,
    /// By how much that may be too low.
    pub error: u64,
    /// Which, escaped.
    pub what: String,
    /// The first bad line, escaped.
    pub example: Option<String>,
}

/// What the last one to two minutes brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Since when, s.
    pub seconds: u64,
    /// `off`, `sampled` or `all`.
    pub senders: String,
    /// Datagrams that were looked at.
    pub datagrams: u64,
    /// Datagrams that should have been, since the start.
    pub left_out: u64,
    /// Values accepted among the samples.
    pub lines: u64,
    /// Names among them that no flush has seen.
    pub new: u64,
    /// Values refused.
    pub bad: u64,
    /// The lists, one behind the other, each from the most.
    pub entries: Vec<Entry>,
}

impl Report {
    /// The report as lines.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let Self { seconds, senders, datagrams, left_out, lines, new, bad, entries } = self;
        let mut text =
            format!("head\t{seconds}\t{senders}\t{datagrams}\t{left_out}\t{lines}\t{new}\t{bad}\n");
        for Entry { of, by, count, error, what, example } in entries {
            write!(text, "{of}\t{by}\t{count}\t{error}\t{what}")
                .expect("writing into a String cannot fail");
            if let Some(example) = example {
                text.push('\t');
                text.push_str(example);
            }
            text.push('\n');
        }
        text
    }

    /// Reads one of these lines; `None` if it is none.
    pub fn take_line(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split('\t');
        let first = fields.next()?.to_owned();
        let number = |field: Option<&str>| field?.parse::<u64>().ok();
        if first == "head" {
            self.seconds = number(fields.next())?;
            self.senders = fields.next()?.to_owned();
            let counts = [
                &mut self.datagrams,
                &mut self.left_out,
                &mut self.lines,
                &mut self.new,
                &mut self.bad,
            ];
            for count in counts {
                *count = number(fields.next())?;
            }
            return Some(());
        }
        self.entries.push(Entry {
            of: first,
            by: fields.next()?.to_owned(),
            count: number(fields.next())?,
            error: number(fields.next())?,
            what: fields.next()?.to_owned(),
            example: fields.next().map(ToOwned::to_owned),
        });
        Some(())
    }

    /// Everything that a list counts: what shares are of.
    #[must_use]
    pub fn total(&self, by: &str) -> u64 {
        match by {
            "lines" => self.lines,
            "new" => self.new,
            _ => self.bad,
        }
    }
}

/// For people: a list each, with shares of the samples.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, senders, datagrams, left_out, lines, new, bad, entries } = self;
        writeln!(
            out,
            "last {seconds} s, of {datagrams} datagrams sampled: {lines} lines, {new} new names, {bad} \
             bad lines (senders {senders}, {left_out} samples left out)"
        )?;
        if *datagrams == 0 {
            writeln!(
                out,
                "\nnothing was looked at yet: one batch of datagrams in {TOP_BATCHES_EACH} is; ask again \
                 when more has come, or set top.senders = \"all\""
            )?;
        }
        let mut list = ("", "");
        for Entry { of, by, count, error, what, example } in entries {
            if list != (of, by) {
                list = (of, by);
                let most = match by.as_str() {
                    "lines" => "most lines",
                    "new" => "most new names",
                    _ => "most bad lines",
                };
                writeln!(out, "\n{of} with {most}")?;
            }
            let percent = count * 100 / self.total(by).max(1);
            let error = if *error == 0 { String::new() } else { format!(" to {}", count + error) };
            write!(out, "  {percent:>3} %  {count}{error}  {what}")?;
            match example {
                Some(example) => writeln!(out, "  e.g. {example}")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_from_its_lines() {
        let entry = |of: &str, by: &str, example: Option<&str>| Entry {
            of: of.to_owned(),
            by: by.to_owned(),
            count: 3,
            error: 1,
            what: "a b".to_owned(),
            example: example.map(str::to_owned),
        };
        let report = Report {
            seconds: 1,
            senders: "all".to_owned(),
            datagrams: 2,
            left_out: 3,
            lines: 6,
            new: 5,
            bad: 6,
            entries: vec![entry("names", "lines", None), entry("senders", "bad", Some("x: y"))],
        };
        let mut read = Report::default();
        assert!(report.to_lines().lines().all(|line| read.take_line(line).is_some()));
        assert_eq!(read, report);
        let text = report.to_string();
        assert!(text.contains("names with most lines\n   50 %  3 to 4  a b\n"), "{text}");
        assert!(text.ends_with("senders with most bad lines\n   50 %  3 to 4  a b  e.g. x: y\n"));
        assert!(!text.contains("nothing was looked at"), "{text}");
        assert!(Report::default().to_string().contains("nothing was looked at yet"));
        for line in ["", "names", "head\tx", "names\tlines\tx\t0\ta"] {
            assert_eq!(Report::default().take_line(line), None, "{line}");
        }
    }
}
