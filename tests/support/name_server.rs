//! A name server that keeps what it is asked until it is told to answer.
//!
//! At the port that resolvers ask, so for a network of one's own alone. Also part of the campaign of faults.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers with 127.0.0.1, or not at all.
#[derive(Debug)]
pub(crate) struct NameServer {
    socket: UdpSocket,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    questions: Vec<(Vec<u8>, SocketAddr)>,
    is_answering: bool,
    is_ending: bool,
}

impl NameServer {
    /// It answers nothing yet.
    pub(crate) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?;
        let server = Self { socket, asked: Arc::default() };
        let (socket, asked) = (server.socket.try_clone()?, Arc::clone(&server.asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 1_024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let mut asked = lock(&asked);
                if asked.is_ending {
                    return;
                }
                let question = buffer[..length].to_vec();
                if asked.is_answering {
                    answer(&socket, &question, from);
                }
                asked.questions.push((question, from));
            }
        });
        Ok(server)
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        lock(&self.asked).questions.len()
    }

    /// Answers all that was asked, and what will be; or nothing any more.
    pub(crate) fn set(&self, is_answering: bool) {
        let mut asked = lock(&self.asked);
        asked.is_answering = is_answering;
        if is_answering {
            for (question, from) in &asked.questions {
                answer(&self.socket, question, *from);
            }
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        lock(&self.asked).is_ending = true;
        // Wakes the thread; where that fails it ends with the process.
        if let Ok(address) = self.socket.local_addr() {
            self.socket.send_to(b"", address).ok();
        }
    }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 127.0.0.1 for whoever asks for an IPv4 address, and no IPv6 address.
fn answer(socket: &UdpSocket, question: &[u8], to: SocketAddr) {
    // Header, the name as labels up to an empty one, type, class; what follows is left out.
    let Some(name_bytes) = question.iter().skip(12).position(|byte| *byte == 0) else { return };
    let end = 12 + name_bytes + 5;
    let Some(kind) = question.get(end - 4..end - 2) else { return };
    let is_ipv4 = kind == [0, 1];
    let mut reply = question[..end].to_vec();
    // A response, recursion desired and available; one question, and an answer or none.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    if is_ipv4 {
        // The name of the question, type A, class IN, no time to live, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    // Whoever asked may be gone.
    socket.send_to(&reply, to).ok();
}
