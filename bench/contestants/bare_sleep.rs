//! The bare `recv` loop that sleeps 1 ms whenever the socket is empty: the cheapest receiver there
//! is at a light load, because it wakes a thousand times a second at the most.

use std::io;
use std::time::Duration;

use super::bare_loop::{BUFFER_BYTES, Post, newlines};

/// The sleep at an empty socket.
const PAUSE: Duration = Duration::from_millis(1);

/// Receives until it is told to stop.
pub(crate) fn run(post: &Post) -> io::Result<()> {
    post.socket.set_nonblocking(true)?;
    let mut buffer = [1_u8; BUFFER_BYTES];
    post.tell_ready();
    while !post.counts.has_to_stop() {
        let (mut datagrams, mut found) = (0, 0);
        loop {
            match post.socket.recv(&mut buffer) {
                Ok(len) => {
                    datagrams += 1;
                    found += newlines(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        post.counts.add(datagrams, found);
        rest();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the sleep is the design that is measured")]
fn rest() {
    std::thread::sleep(PAUSE);
}
