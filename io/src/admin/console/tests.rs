//! The console over real connections, with a coordinator that is a thread of the test.

use std::io::{Read, Write};
use std::net::TcpStream;

use crossbeam_channel::Receiver;
use floe_core::config::settings::Health;
use floe_core::interval::view::NumberView;

use super::*;
use crate::admin::face::Description;
use crate::coordinator::request::{REQUESTS_MAX, Stats};
use crate::export::registry::AccountRegistry;

const ROOMY: ConsoleLimits = ConsoleLimits {
    connections_max: 8,
    idle_max: Duration::from_secs(60),
    idle_before_giving_way: Duration::from_secs(60),
};

fn open(port: u16, limits: ConsoleLimits) -> (Result<Console, ConsoleError>, Receiver<Request>) {
    let (requests, received) = bounded(REQUESTS_MAX);
    let accounts = Arc::new(AccountRegistry::default());
    let face = Face::new(5, Health::Up, Description::default(), accounts, Arc::default());
    let console = Console::bind(Some("127.0.0.1"), port, None)
        .and_then(|listener| Console::open(listener, Arc::new(face), requests, limits));
    (console, received)
}

fn connect(console: &Console) -> TcpStream {
    let stream = TcpStream::connect(console.local_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends `text` and reads as much as `expected` is long.
fn asks(mut stream: &TcpStream, text: &str, expected: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = vec![0; expected.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(String::from_utf8_lossy(&reply), expected);
}

fn rest(mut stream: &TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

fn answer(question: Request) {
    match question {
        Request::Counters(asker) => asker.send(NumberView::default()).unwrap(),
        Request::Stats(asker) => asker.send(Stats::default()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn closing_frees_the_port_and_lets_everybody_go() {
    let (console, received) = open(0, ROOMY);
    let console = console.unwrap();
    let address = console.local_address();
    let (idle, waiting) = (connect(&console), connect(&console));
    asks(&idle, "health\n", "health: up\n");
    (&waiting).write_all(b"counters\n").unwrap();
    let question = received.recv().unwrap();
    console.close();
    assert_eq!((rest(&idle), rest(&waiting)), (String::new(), String::new()));
    assert!(TcpStream::connect(address).is_err());
    drop(question);
}

#[test]
fn a_taken_port_is_an_error_that_names_the_setting() {
    let first = open(0, ROOMY).0.unwrap();
    let port = first.local_address().port();
    let error = open(port, ROOMY).0.unwrap_err();
    assert!(error.to_string().contains("mgmt_port"), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[test]
fn health_is_answered_while_others_wait_for_the_coordinator() {
    let (console, received) = open(0, ROOMY);
    let console = console.unwrap();
    let waiting: Vec<TcpStream> = (0..5).map(|_| connect(&console)).collect();
    for mut stream in &waiting {
        stream.write_all(b"counters\n").unwrap();
    }
    let first: Vec<Request> = received.iter().take(CONSOLE_VIEWS_MAX).collect();
    let checker = connect(&console);
    asks(&checker, "health down\n", "health: down\n");
    asks(&checker, "health\r\n", "health: down\n");
    asks(&checker, "config\n", "\n");
    assert!(received.is_empty(), "no more dumps at once than may be");
    std::thread::scope(|scope| {
        scope.spawn(|| first.into_iter().chain(received.iter().take(3)).for_each(answer));
        for stream in &waiting {
            asks(stream, "", "{}\nEND\n\n");
        }
    });
}

/// Whether `stream` is answered; not, if it was let go or refused.
fn is_served(mut stream: &TcpStream) -> bool {
    let expected = *b"health: up\n";
    let mut reply = [0; 11];
    let asked = stream.write_all(b"health\n").and_then(|()| stream.read_exact(&mut reply));
    asked.is_ok() && reply == expected
}

#[test]
fn at_the_cap_an_idle_one_gives_way_and_without_one_the_newcomer() {
    let limits =
        ConsoleLimits { connections_max: 2, idle_before_giving_way: Duration::ZERO, ..ROOMY };
    let (console, received) = open(0, limits);
    let console = console.unwrap();
    let (first, second) = (connect(&console), connect(&console));
    assert!(is_served(&first) && is_served(&second));
    // For a moment after its answer a connection still counts as at work.
    let mut tries = std::iter::repeat_with(|| connect(&console)).take(1_000);
    let third = tries.find(is_served).unwrap();
    let old = [first, second];
    let mut staying: Vec<&TcpStream> = old.iter().filter(|stream| is_served(stream)).collect();
    assert_eq!(staying.len(), 1, "one of the two has given way");
    staying.push(&third);
    for mut stream in staying.iter().copied() {
        stream.write_all(b"stats\n").unwrap();
    }
    let questions: Vec<Request> = received.iter().take(2).collect();
    assert_eq!(rest(&connect(&console)), "ERROR too many connections\n", "all are at work");
    questions.into_iter().for_each(answer);
    for stream in staying {
        asks(stream, "", "uptime: ");
    }
}

#[test]
fn the_idlest_is_the_one_that_gives_way() {
    let idle = [Some(7), None, Some(9), Some(3)];
    assert_eq!(idlest(idle.into_iter(), 5), Some(2));
    assert_eq!(idlest(idle.into_iter(), 9), Some(2));
    assert_eq!(idlest(idle.into_iter(), 10), None);
    assert_eq!(idlest([None, None].into_iter(), 0), None);
}

#[test]
fn nobody_gives_way_who_was_at_work_a_moment_ago() {
    let (console, _received) = open(0, ConsoleLimits { connections_max: 1, ..ROOMY });
    let console = console.unwrap();
    let first = connect(&console);
    asks(&first, "health\n", "health: up\n");
    assert_eq!(rest(&connect(&console)), "ERROR too many connections\n");
    asks(&first, "quit\n", "");
    assert_eq!(rest(&first), "");
}

#[test]
fn an_idle_connection_is_closed() {
    let (console, _received) =
        open(0, ConsoleLimits { idle_max: Duration::from_millis(50), ..ROOMY });
    let console = console.unwrap();
    assert_eq!(rest(&connect(&console)), "");
    let stream = connect(&console);
    asks(&stream, "health\n", "health: up\n");
    assert_eq!(rest(&stream), "", "the time runs from the last command");
}

#[test]
fn a_line_without_end_is_refused_with_a_word() {
    let (console, _received) = open(0, ROOMY);
    let console = console.unwrap();
    let stream = connect(&console);
    // Whether all of it is taken is the console's choice.
    (&stream).write_all(&vec![b'a'; 200_000]).ok();
    assert_eq!(rest(&stream), "ERROR line too long\n");
}

#[test]
fn a_client_that_closes_its_side_is_answered_first() {
    let (console, _received) = open(0, ROOMY);
    let console = console.unwrap();
    let stream = connect(&console);
    (&stream).write_all(b"health\nhelp me\nhealth down").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let replies = rest(&stream);
    assert!(replies.starts_with("health: up\nCommands: stats, "), "{replies}");
    assert!(replies.ends_with("config, quit\n\nhealth: down\n"), "{replies}");
}

#[test]
fn a_client_that_takes_nothing_holds_up_nobody() {
    let (console, received) = open(0, ROOMY);
    let console = console.unwrap();
    let greedy = connect(&console);
    // Far more replies than the buffers between us hold; the console stops reading, so do not wait.
    greedy.set_nonblocking(true).unwrap();
    let request = b"help\n".repeat(1 << 14);
    while (&greedy).write(&request).is_ok() {}
    let checker = connect(&console);
    asks(&checker, "health\n", "health: up\n");
    console.close();
    assert!(received.is_empty());
}
