//! The command line: what is taken, what is refused, and what options say together.

use super::*;

fn task(arguments: &[&str]) -> Result<Task, String> {
    let arguments = ["loadgen"].iter().chain(arguments);
    let line: Vec<OsString> = arguments.map(OsString::from).collect();
    Arguments::read(&line).map_err(|error| error.to_string())?.into_task()
}

fn load(arguments: &[&str]) -> Load {
    match task(arguments).unwrap() {
        Task::Load(load) => *load,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn without_options_a_modest_load_goes_to_the_usual_port() {
    let load = load(&[]);
    assert_eq!(load.plan.target, Target::Udp("127.0.0.1:8125".parse().unwrap()));
    assert_eq!((load.share.lines_max, load.share.rate), (100_000, Some(50_000)));
    assert_eq!((load.plan.senders, load.plan.sockets, load.plan.rotation_lines), (1, 1, None));
    assert_eq!(load.plan.packing.datagram_bytes_max, 1_400);
    assert!(load.naming.is_legacy);
}

#[test]
fn a_duration_alone_sets_no_limit_on_lines() {
    assert_eq!(load(&["--duration", "2s"]).share.lines_max, u64::MAX);
    let both = load(&["--duration", "2s", "--lines", "5"]);
    assert_eq!((both.share.lines_max, both.share.duration_max), (5, Some(Duration::from_secs(2))));
}

#[test]
fn values_are_read_in_all_their_forms() {
    assert_eq!(load(&["--rate", "max"]).share.rate, None);
    assert!(load(&["--packing", "single"]).plan.packing.is_single);
    assert_eq!(load(&["--packing", "packed=8932"]).plan.packing.datagram_bytes_max, 8_932);
    assert_eq!(load(&["--gso"]).plan.packing.end, End::Padded);
    assert_eq!(load(&["--target", "unix:/s"]).plan.packing.end, End::LineFeed);
    assert_eq!(load(&["--lines", "2M"]).share.lines_max, 2_000_000);
    assert_eq!(load(&["--names", "10k"]).shape.names, 10_000);
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
    let load = load(&["--sink", "text=127.0.0.1:0", "--sink", "pickle=[::1]:2104"]);
    assert_eq!(load.sinks[1], (Protocol::Pickle, "[::1]:2104".parse().unwrap()));
}

#[test]
fn nonsense_is_refused() {
    for wrong in [
        &["--rate", "0"][..],
        &["--margin", "1s"],
        &["--interval", "0s", "--margin", "0s"],
        &["--interval", "2s", "--margin", "1s"],
        &["--rate", "fast"],
        &["--packing", "packed=65508"],
        &["--packing", "packed=50"],
        &["--packing", "loose"],
        &["--names", "0"],
        &["--names", "11M"],
        &["--mix", "c=0"],
        &["--bad", "101"],
        &["--duration", "10"],
        &["--duration", "s"],
        &["--key-prefix", "a b"],
        &["--key-prefix", "a."],
        &["--sink", "text"],
        &["--sink", "xml=127.0.0.1:1"],
        &["--sink", "text=nowhere"],
        &["--sink", "text=127.0.0.1:0", "--sink", "text=127.0.0.1:0"],
        &["--sink-ready-file", "x"],
        &["--graphite", "ftp://x"],
        &["--target", "127.0.0.1"],
        &["--replay-port", "1"],
        &["--replay", "x", "--lines", "1"],
        &["--replay", "x", "--pid", "1"],
        &["--probe-every", "5ms"],
        &["--graphite-step", "5s"],
        &["--mix", "g=1", "--names", "1", "--senders", "2"],
        &["--gso", "--target", "tcp:127.0.0.1:1"],
        &["--replay", "x", "--target", "unix:/s"],
        &["--target", "unix:"],
        &["search"],
        &["search", "--pid", "1", "--rate", "5"],
        &["search", "--pid", "1", "--target", "tcp:127.0.0.1:1"],
        &["search", "--pid", "1", "--latency", "--sink", "text=127.0.0.1:0"],
        &["search", "--pid", "1", "--from", "5", "--to", "4"],
        &["search", "--pid", "1", "--loss", "100"],
        &["--pid", "1", "search", "--pid", "1"],
        &["--from", "5"],
        &["--latency"],
        &["--workload", "/absent/workload.toml"],
        &["--burst", "65"],
        &["--sockets", "0"],
        &["--pacing", "later"],
        &["--mix", "g=1", "--names", "1", "--sockets", "2"],
        &["--unknown"],
        &["stray"],
    ] {
        assert!(task(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_replay_takes_target_rate_and_port() {
    let arguments = ["--replay", "a.pcap", "--replay-port", "8125", "--rate", "max"];
    let Ok(Task::Replay(replay)) = task(&arguments) else { panic!("no replay") };
    assert_eq!((replay.port, replay.rate), (Some(8_125), None));
}

#[test]
fn fast_lines_are_composed_ahead() {
    let rotation = |arguments: &[&str]| load(arguments).plan.rotation_lines;
    assert_eq!(rotation(&["--rate", "999999"]), None);
    assert_eq!(rotation(&["--rate", "1000000"]), Some(65_536));
    assert_eq!(rotation(&["--rate", "max", "--names", "50000", "--duration", "1s"]), Some(200_000));
    assert_eq!(rotation(&["--rate", "max", "--lines", "10"]), Some(10));
    assert_eq!(rotation(&["--rate", "max", "--pool", "0"]), None);
    assert_eq!(rotation(&["--pool", "500"]), Some(500));
}

#[test]
fn every_socket_has_a_stream_of_its_own() {
    let load = load(&["--senders", "2", "--sockets", "8"]);
    assert_eq!((load.shape.streams, load.plan.senders, load.plan.sockets), (16, 2, 8));
}

fn search(arguments: &[&str]) -> (Load, Settings) {
    match task(arguments).unwrap() {
        Task::Search(load, settings) => (*load, settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_search_has_options_of_its_own_and_those_of_a_load() {
    let arguments = ["search", "--pid", "7", "--from", "20k", "--to", "3M", "--packing", "single"];
    let (load, settings) = search(&arguments);
    assert_eq!((settings.from, settings.to), (20_000, 3_000_000));
    assert_eq!((load.pid, load.share.lines_max), (Some(7), u64::MAX));
    assert!(load.plan.packing.is_single);
    assert_eq!(load.plan.rotation_lines, Some(65_536));
    assert_eq!(load.patience.settle, Duration::from_secs(5));
}

#[test]
fn the_options_of_a_file_give_way_to_those_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workload.toml");
    std::fs::write(&file, "names = 7\nrate = 9\nmix = { c = 1, g = 2 }\n").unwrap();
    let file = file.to_str().unwrap();
    let both = load(&["--rate", "20k", "--workload", file]);
    assert_eq!((both.shape.names, both.share.rate), (7, Some(20_000)));
    assert_eq!(both.shape.mix.weights, [1, 0, 2, 0]);
    let (load, _) = search(&["search", "--workload", file, "--pid", "7", "--names", "8"]);
    assert_eq!((load.shape.names, load.shape.mix.weights), (8, [1, 0, 2, 0]));
}

/// Told by the file, its line and its key, and not as an option that nobody gave.
#[test]
fn r4_a_file_with_a_wrong_value_is_refused_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload.toml");
    let file = path.to_str().unwrap();
    for (wrong, why) in [
        ("names = 0", "names = 0: give a number above 0"),
        ("bad = 101", "bad = 101: 101 is not in 0..=100"),
        ("packing = \"loose\"", "packing = loose: give single, packed"),
        ("pacing = \"later\"", "pacing = later: give one of spin, sleep"),
        ("mix = { x = 1 }", "mix = x=1: \"x\" is none of the kinds"),
        ("lines = -5", "lines = -5: give a number above 0"),
        ("packing = \"packed=50\"", "packing packed=50: lines may have"),
        ("unknown = 1", "unknown is none of"),
        ("= 1", ""),
    ] {
        std::fs::write(&path, format!("seed = 3\n{wrong}\n")).unwrap();
        let error = task(&["--workload", file]).unwrap_err();
        assert!(error.contains(&format!("{file}, line 2: {why}")), "{wrong}: {error}");
        assert!(!error.contains(&format!("--{}", &wrong[..2])), "{wrong}: {error}");
    }
}

/// What the command line says instead is not the file's fault.
#[test]
fn r4_an_option_that_wins_over_the_file_is_told_as_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload.toml");
    std::fs::write(&path, "packing = \"single\"\n").unwrap();
    let error = task(&["--workload", path.to_str().unwrap(), "--packing", "packed=50"]);
    assert!(error.unwrap_err().starts_with("--packing packed=50: "));
}
