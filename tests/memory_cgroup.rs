//! Claim: the limit of a cgroup refuses a start whose configured budgets exceed it, what is left open
//! is fitted to it, and no flood brings a daemon that keeps it to its limit. Method: a cgroup of the
//! test's own, whose counts are the judge; that it kills who passes its limit is shown first. Where the
//! test may not make one it says so: `tests/memory_ceiling.rs` has the floods without it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use support::daemon::{Ingest, Launch, behind, floe, text_of};
use support::flood::{Flood, budgets, ceiling_of, with_streams};
use support::memory_cgroup::MemoryCgroup;
use support::settings;

mod support;

const MIB: u64 = 1 << 20;

/// A group, or a word on why there is none.
#[expect(clippy::print_stderr, reason = "what cannot be shown is said")]
fn group(name: &str, limit_bytes: u64) -> Option<MemoryCgroup> {
    MemoryCgroup::make(name, limit_bytes)
        .map_err(|reason| eprintln!("not shown under a limit of the kernel's: {reason}"))
        .ok()
}

/// Runs `command` in `group` to its end.
fn run(group: &MemoryCgroup, command: &Command) -> Output {
    let wrapper = group.wrapper();
    let (program, words) = wrapper.split_first().expect("a shell");
    let mut wrapped = behind(program, words, command);
    wrapped.args(command.get_args());
    wrapped.output().expect("the shell runs")
}

/// A command line of floe on `text`, written below `folder`.
fn command(folder: &Path, words: &[&str], text: &str) -> Command {
    let path = folder.join("floe.toml");
    std::fs::write(&path, text).expect("the test's folder is writable");
    let mut floe = floe();
    floe.args(words).arg(&path);
    if words.is_empty() {
        floe.arg("--spool").arg(folder.join("spool"));
    }
    floe
}

#[test]
fn the_judge_kills_who_passes_its_limit_and_counts_it() {
    let Some(group) = group("judge", 16 * MIB) else { return };
    // It keeps the last line, which has no end.
    let mut command = Command::new("tail");
    command.arg("/dev/zero");
    let output = run(&group, &command);
    assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{}", text_of(&output));
    let figures = group.figures();
    assert!(1 <= figures.oom_kills, "{figures:?}");
    assert!(figures.peak_bytes.is_none_or(|peak| peak <= 16 * MIB), "{figures:?}");
}

#[test]
fn a_limit_of_a_cgroup_refuses_what_exceeds_it_and_what_is_open_is_fitted() {
    let Some(narrow) = group("refused", 256 * MIB) else { return };
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let open = format!("{}\n[ingest]\nworkers = 1\n", settings::toml(1_000, &[]));
    let configured = format!("{open}[series]\nmax = 1000000\n");
    for words in [&[][..], &["check"]] {
        let output = run(&narrow, &command(folder.path(), words, &configured));
        assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
        assert!(text_of(&output).contains("exceeds the limit of 256 MiB"), "{}", text_of(&output));
    }
    assert!(!folder.path().join("spool").exists(), "nothing was touched");
    drop(narrow);
    // Outside it the same file is in order.
    let outside = command(folder.path(), &["check"], &configured).output().expect("floe runs");
    assert!(outside.status.success(), "{}", text_of(&outside));

    let Some(fitted) = group("fitted", 512 * MIB) else { return };
    let output = run(&fitted, &command(folder.path(), &["check"], &open));
    let text = text_of(&output);
    assert!(output.status.success() && ceiling_of(&text) <= 512, "{text}");
    for ingest in Ingest::BOTH {
        let mut daemon = Launch::under(folder.path(), ingest)
            .wrapped(&fitted.wrapper())
            .config("floe.toml", &open)
            .start();
        let said = format!("ceiling=\"{} MiB\" limit=\"512 MiB\"", ceiling_of(&text));
        assert!(daemon.output().contains(&said), "{said} is not in\n{}", daemon.output());
        daemon.drain(Signal::TERM);
    }
    assert_eq!(fitted.figures().oom_kills, 0);
}

/// Floods a daemon whose cgroup has its ceiling as its limit.
fn stays_below(name: &str, ingest: Ingest, text: &str, flood: fn(&mut Flood<'_>)) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let check = command(folder.path(), &["check"], text).output().expect("floe runs");
    let limit_bytes = ceiling_of(&text_of(&check)) * MIB;
    let Some(group) = group(name, limit_bytes) else { return };
    let mut daemon = Launch::under(folder.path(), ingest)
        .wrapped(&group.wrapper())
        .config("floe.toml", text)
        .start();
    let mut sender = Flood::of(&daemon);
    flood(&mut sender);
    sender.finish().assert_below();
    let figures = group.figures();
    assert_eq!(figures.oom_kills, 0, "{name}: {figures:?}");
    // The page cache of the spool is in it, too: it is small here.
    assert_eq!(figures.refusals, 0, "{name}: {figures:?} at {limit_bytes} bytes");
    assert!(figures.peak_bytes.is_none_or(|peak| peak < limit_bytes), "{name}: {figures:?}");
    daemon.drain(Signal::TERM);
    assert_eq!(group.figures().oom_kills, 0, "{name}: {:?}", group.figures());
}

fn small_budgets(values: &str) -> String {
    format!("{}\n{}", settings::toml(1_000, &[]), budgets(values))
}

#[test]
fn a_bomb_of_names_stays_below_the_limit() {
    for ingest in Ingest::BOTH {
        let name = format!("names-{}", ingest.flag());
        stays_below(&name, ingest, &small_budgets("16MiB"), |flood| flood.names());
    }
}

#[test]
fn a_flood_of_timer_values_stays_below_the_limit() {
    stays_below("times", Ingest::IoUring, &small_budgets("1MiB"), |flood| flood.times());
}

#[test]
fn a_flood_of_long_members_stays_below_the_limit() {
    stays_below("members", Ingest::Recvmmsg, &small_budgets("1MiB"), |flood| flood.members());
}

#[test]
fn connections_that_never_end_a_line_stay_below_the_limit() {
    for ingest in Ingest::BOTH {
        let name = format!("lines-{}", ingest.flag());
        let hold = |flood: &mut Flood<'_>| drop(flood.endless_lines());
        stays_below(&name, ingest, &with_streams(), hold);
    }
}
