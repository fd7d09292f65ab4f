//! A client of the admin console, as a script would be one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wait;

/// Longest answer of a daemon on a machine busy with other tests.
const ANSWER_BOUND: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub(crate) struct Console {
    stream: TcpStream,
}

impl Console {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the console accepts");
        stream.set_read_timeout(Some(ANSWER_BOUND)).expect("a bound above zero");
        Self { stream }
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        (&self.stream).write_all(bytes.as_ref()).expect("the console takes a command");
    }

    /// Sends `command` and reads until the reply ends in `end`.
    pub(crate) fn ask(&self, command: &str, end: &str) -> String {
        self.send(command);
        let deadline = wait::now() + ANSWER_BOUND;
        let mut reply = Vec::new();
        let mut buffer = [0; 65_536];
        while !reply.ends_with(end.as_bytes()) {
            let len = match (&self.stream).read(&mut buffer) {
                Ok(0) => panic!("{command:?}: closed after {:?}", String::from_utf8_lossy(&reply)),
                Ok(len) => len,
                Err(error) => panic!("{command:?}: {error} after {} bytes", reply.len()),
            };
            reply.extend_from_slice(&buffer[..len]);
            assert!(wait::now() < deadline, "{command:?}: no end after {} bytes", reply.len());
        }
        String::from_utf8(reply).expect("replies are text")
    }

    /// Sends `command`; the reply is `expected`, and nothing follows it: the next one is checked
    /// for that too.
    pub(crate) fn expect(&self, command: &str, expected: &str) {
        self.send(command);
        let mut reply = vec![0; expected.len()];
        if let Err(error) = (&self.stream).read_exact(&mut reply) {
            panic!("{command:?}: {error}, where this was expected:\n{expected}");
        }
        assert_eq!(String::from_utf8_lossy(&reply), expected, "{command:?}");
        let extra = self.ask("help\n", "quit\n\n");
        assert!(extra.starts_with("Commands: "), "{command:?}: left over: {extra:?}");
    }

    /// What comes until the daemon closes.
    pub(crate) fn rest(&self) -> String {
        let mut rest = Vec::new();
        match (&self.stream).read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
