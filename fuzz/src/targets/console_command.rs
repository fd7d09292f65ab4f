//! The console: any bytes in any pieces become commands or an end, in bounded memory.
//!
//! An input is eight bytes that decide the pieces, then what a client sends.

use floe_core::escape::controls_escaped;
use floe_core::glob::Glob;
use floe_core::limits::CONSOLE_LINE_BYTES_MAX;
use floe_io::admin::command::{Command, CommandReader};

use super::{Reader, Target, claim, equal};
use crate::counting::allocated_bytes;
use crate::mutate::Grammar;
use crate::random::Random;

pub(super) const TARGET: Target = Target {
    name: "console_command",
    about: "any pieces give the commands of one read; names are single words; globs end",
    grammar: Grammar {
        words: &[
            "help\n",
            "stats\n",
            "counters\n",
            "timers\n",
            "gauges\n",
            "delcounters ",
            "deltimers ",
            "delgauges ",
            "health ",
            "up",
            "down",
            "config\n",
            "quit\n",
            "\r\n",
            " ",
            "a.*",
            "**",
            "{a,b}",
            "[!a-z]",
            "?",
            "\\",
            "{",
            "[",
            "*",
        ],
        delimiters: b" \n\r",
    },
    reader: || Box::new(Commands),
};

/// Globs tried per input: compiling one takes about a millisecond, and an input may be 30,000 names.
const GLOBS_MAX: usize = 16;

struct Commands;

/// Commands of `pieces`, but for those that say nothing, and whether a line was too long.
fn commands(pieces: &[&[u8]]) -> (Vec<Command>, bool) {
    let (mut reader, mut commands) = (CommandReader::default(), Vec::new());
    for piece in pieces {
        match reader.take(piece) {
            Ok(taken) => commands.extend(taken),
            Err(_) => return (known(commands), true),
        }
    }
    commands.extend(reader.finish());
    (known(commands), false)
}

/// A read of blank lines alone is an unknown command: how many there are depends on the pieces.
fn known(mut commands: Vec<Command>) -> Vec<Command> {
    commands.retain(|command| *command != Command::Unknown);
    commands
}

impl Reader for Commands {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let (mut random, text) = Random::of_input(input);
        let (mut pieces, mut rest) = (Vec::new(), text);
        let most = if random.once_in(2) { 8 } else { 16 << 10 };
        let bytes_max = 1 + random.below(most);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.below(bytes_max)).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        let before = allocated_bytes();
        let (found, is_too_long) = commands(&pieces);
        let allocated = allocated_bytes() - before;
        // Each read is copied, what it leaves is moved, and a name has a list of its own.
        let bound = 64 * text.len() + 256 * pieces.len() + 4 * CONSOLE_LINE_BYTES_MAX;
        claim(allocated <= bound, || format!("{allocated} bytes allocated, not {bound}"))?;
        let (expected, is_too_long_at_once) = commands(&[text]);
        equal("a line too long", &is_too_long, &is_too_long_at_once)?;
        if !is_too_long {
            equal("commands", &found, &expected)?;
        }
        let mut globs = 0;
        for command in found {
            if let Command::Delete { names, .. } = command {
                names.iter().try_for_each(|name| check_name(name))?;
                globs += names.len();
                if globs <= GLOBS_MAX {
                    names.iter().try_for_each(|name| check_glob(name))?;
                }
            }
        }
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let is_word = !name.iter().any(|byte| matches!(byte, b' ' | b'\n'));
    claim(is_word, || format!("name \"{}\" of several words", name.escape_ascii()))?;
    let text = String::from_utf8_lossy(name);
    let shown = controls_escaped(&text);
    claim(!shown.chars().any(char::is_control), || format!("{shown:?} would reach a terminal"))
}

/// What the same words would be to `floe query`.
fn check_glob(name: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(name);
    // Compiling costs by the length of a pattern: a few hundred bytes tell as much as more.
    if let (true, Ok(glob)) = (name.len() <= 256, Glob::new(&text)) {
        for other in
            [&b""[..], b"a.b", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"\xff\n\0", name]
        {
            let is_match = glob.is_match(other);
            claim(text != "**" || is_match, || "\"**\" leaves something out".to_owned())?;
        }
    }
    Ok(())
}
