//! Bytes of a connection become commands.
//!
//! A command is a line: its first word, and arguments between single spaces. The reference daemon
//! takes whatever one read gives it for a command, and scripts rely on both halves of that:
//!
//! - `health\n\n`, as the shell health check sends it, is one command: blank lines are passed over
//!   in a read that has a command, and a read of nothing but blank lines is one `ERROR`;
//! - a command needs no newline. But a long one may arrive in pieces, so text without a newline is
//!   held, and is a command once nothing has followed for `GRACE`, or the client has closed.
//!
//! Unlike there, two commands that arrive together are two commands (D45 in docs/protocol.md).

use std::time::Duration;

use floe_core::interval::Deletable;
use floe_core::limits::CONSOLE_LINE_BYTES_MAX;

/// How long text without a newline waits for the rest of its line.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The commands there are.
    Help,
    /// What the daemon has counted.
    Stats,
    /// All series of a kind.
    Show(Deletable),
    /// Series taken out.
    Delete {
        /// Of this kind.
        kind: Deletable,
        /// Names, or globs over them.
        names: Vec<Vec<u8>>,
    },
    /// `Some`: whether it is up from now on.
    Health(Option<bool>),
    /// The configuration in force.
    Config,
    /// Who brings most.
    Top,
    /// The connection is to be closed.
    Quit,
    /// Anything else, blank input included.
    Unknown,
}

/// A line passes [`CONSOLE_LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Gathers what was read until it is a command.
#[derive(Debug, Default)]
pub struct CommandReader {
    /// Text behind the last newline.
    held: Vec<u8>,
}

impl CommandReader {
    /// Takes one read; returns the commands that are complete with it.
    ///
    /// # Errors
    /// A line is longer than any command may be.
    pub fn take(&mut self, read: &[u8]) -> Result<Vec<Command>, LineTooLong> {
        self.held.extend_from_slice(read);
        let Some(end) = memchr::memrchr(b'\n', &self.held) else {
            return if CONSOLE_LINE_BYTES_MAX < self.held.len() {
                Err(LineTooLong)
            } else {
                Ok(Vec::new())
            };
        };
        let rest = self.held.split_off(end + 1);
        let lines = std::mem::replace(&mut self.held, rest);
        if CONSOLE_LINE_BYTES_MAX < self.held.len() {
            return Err(LineTooLong);
        }
        let mut commands = Vec::new();
        for line in lines.split(|byte| *byte == b'\n') {
            if CONSOLE_LINE_BYTES_MAX < line.len() {
                return Err(LineTooLong);
            }
            if !trimmed(line).is_empty() {
                commands.push(command(line));
            }
        }
        if trimmed(&self.held).is_empty() {
            self.held.clear();
            if commands.is_empty() {
                commands.push(Command::Unknown);
            }
        }
        Ok(commands)
    }

    /// Whether text waits for the rest of its line.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing follows: what is held is a command.
    pub fn finish(&mut self) -> Option<Command> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| command(&held))
    }
}

fn command(line: &[u8]) -> Command {
    let mut words = trimmed(line).split(|byte| *byte == b' ');
    let show = |kind| Command::Show(kind);
    match words.next().unwrap_or_default() {
        b"help" => Command::Help,
        b"stats" => Command::Stats,
        b"counters" => show(Deletable::Counters),
        b"timers" => show(Deletable::Timers),
        b"gauges" => show(Deletable::Gauges),
        b"delcounters" => delete(Deletable::Counters, words),
        b"deltimers" => delete(Deletable::Timers, words),
        b"delgauges" => delete(Deletable::Gauges, words),
        b"health" => Command::Health(words.next().and_then(health)),
        b"config" => Command::Config,
        b"top" => Command::Top,
        b"quit" => Command::Quit,
        _ => Command::Unknown,
    }
}

fn delete<'a>(kind: Deletable, words: impl Iterator<Item = &'a [u8]>) -> Command {
    Command::Delete { kind, names: words.map(<[u8]>::to_vec).collect() }
}

fn health(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"up") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"down") {
        Some(false)
    } else {
        None
    }
}

/// Without white space at both ends; JavaScript's `trim` takes vertical tabs too.
fn trimmed(line: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !byte.is_ascii_whitespace() && *byte != 0x0b;
    let start = line.iter().position(is_text).unwrap_or(line.len());
    let end = line.iter().rposition(is_text).map_or(start, |last| last + 1);
    line.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(reads: &[&str]) -> Vec<Command> {
        let mut reader = CommandReader::default();
        let mut all = Vec::new();
        for read in reads {
            all.extend(reader.take(read.as_bytes()).unwrap());
        }
        all.extend(reader.finish());
        assert!(!reader.is_holding());
        all
    }

    const HEALTH: Command = Command::Health(None);

    #[test]
    fn r5_what_follows_a_newline_has_the_same_limit() {
        let long = vec![b'x'; CONSOLE_LINE_BYTES_MAX + 1];
        let read = [b"help\n", &long[..]].concat();
        assert_eq!(CommandReader::default().take(&read), Err(LineTooLong));
    }

    #[test]
    fn blank_lines_beside_a_command_are_passed_over_and_alone_are_an_error() {
        for text in
            ["health\n", "health\r\n", "health\n\n", "\nhealth\n", " health \n\r\n \n", "health"]
        {
            assert_eq!(commands(&[text]), [HEALTH], "{text:?}");
        }
        for text in ["\n", "\r\n", " \n", "\n\n\n", " ", "\t", "\x0b\n"] {
            assert_eq!(commands(&[text]), [Command::Unknown], "{text:?}");
        }
        assert_eq!(commands(&["health\n", "\n"]), [HEALTH, Command::Unknown]);
        assert!(commands(&[]).is_empty());
    }

    #[test]
    fn a_command_in_pieces_is_one_and_two_in_one_piece_are_two() {
        assert_eq!(commands(&["he", "al", "th\r", "\n"]), [HEALTH]);
        assert_eq!(
            commands(&["health\nhelp\nsta", "ts\n"]),
            [HEALTH, Command::Help, Command::Stats]
        );
        assert_eq!(commands(&["health\nhelp"]), [HEALTH, Command::Help]);
    }

    #[test]
    fn however_a_text_is_cut_its_commands_are_the_same() {
        let text = "health\r\nhelp\n delgauges a b.*\nconfig\nnonsense";
        let whole = commands(&[text]);
        assert_eq!(whole.len(), 5);
        for first in 1..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                // A piece of blanks alone would be a command of its own.
                if pieces.iter().all(|piece| !piece.trim().is_empty()) {
                    assert_eq!(commands(&pieces), whole, "{pieces:?}");
                }
            }
        }
    }

    #[test]
    fn words_are_cut_at_single_spaces_and_case_matters() {
        let names = |names: &[&str]| Command::Delete {
            kind: Deletable::Gauges,
            names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        };
        assert_eq!(commands(&["delgauges\n"]), [names(&[])]);
        assert_eq!(commands(&["delgauges a b.* c\td\n"]), [names(&["a", "b.*", "c\td"])]);
        assert_eq!(commands(&["delgauges  a\n"]), [names(&["", "a"])]);
        assert_eq!(commands(&["Health\n"]), [Command::Unknown]);
        assert_eq!(commands(&["health  down\n"]), [HEALTH], "the first argument is empty");
        assert_eq!(commands(&["health DOWN up\n"]), [Command::Health(Some(false))]);
        assert_eq!(commands(&["health maybe\n"]), [HEALTH]);
        assert_eq!(commands(&["help me\n", "quit now\n"]), [Command::Help, Command::Quit]);
    }

    #[test]
    fn a_line_may_be_so_long_and_no_longer() {
        let line = |bytes: usize| {
            let mut line = b"delcounters ".to_vec();
            line.resize(bytes, b'a');
            line
        };
        for (bytes, is_taken) in
            [(CONSOLE_LINE_BYTES_MAX, true), (CONSOLE_LINE_BYTES_MAX + 1, false)]
        {
            let mut whole = line(bytes);
            let mut open = CommandReader::default();
            assert_eq!(open.take(&whole).is_ok(), is_taken);
            whole.push(b'\n');
            assert_eq!(CommandReader::default().take(&whole).is_ok(), is_taken);
        }
        let many = b"health\n".repeat(CONSOLE_LINE_BYTES_MAX);
        assert_eq!(CommandReader::default().take(&many).unwrap().len(), CONSOLE_LINE_BYTES_MAX);
    }
}
