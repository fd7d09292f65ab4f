//! A name server that keeps what it is asked until it is told to answer.
//!
//! At the port that resolvers ask, so for a network of one's own alone; over TCP (`options use-vc`), so that
//! whoever counts datagrams there counts none of its. Also part of the campaign of faults.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What makes resolvers ask it.
pub(crate) const RESOLVER: &str = "nameserver 127.0.0.1\noptions use-vc\n";

/// Answers with 127.0.0.1, or not at all.
#[derive(Debug)]
pub(crate) struct NameServer {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    asked: usize,
    /// Questions, and who waits for the answers.
    waiting: Vec<(Vec<u8>, TcpStream)>,
    is_answering: bool,
    is_ending: bool,
}

impl NameServer {
    /// It answers nothing yet.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 53))?;
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&shared).is_ending {
                    return;
                }
                let shared = Arc::clone(&shared);
                // Ends with the connection: whoever asks closes it.
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Self { state })
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        lock(&self.state).asked
    }

    /// Answers all that was asked, and what will be; or nothing any more.
    pub(crate) fn set(&self, is_answering: bool) {
        let mut state = lock(&self.state);
        state.is_answering = is_answering;
        if is_answering {
            for (question, stream) in state.waiting.drain(..) {
                answer(&stream, &question);
            }
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        lock(&self.state).is_ending = true;
        // Wakes the thread, which closes the port; where that fails it ends with the process.
        TcpStream::connect((Ipv4Addr::LOCALHOST, 53)).ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads questions, each behind its length.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        let Ok(()) = stream.read_exact(&mut question) else { return };
        let mut state = lock(state);
        state.asked += 1;
        if state.is_answering {
            answer(&stream, &question);
        } else if let Ok(waits) = stream.try_clone() {
            state.waiting.push((question, waits));
        }
    }
}

/// 127.0.0.1 for whoever asks for an IPv4 address, and no IPv6 address.
fn answer(mut stream: &TcpStream, question: &[u8]) {
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
    let length = u16::try_from(reply.len()).unwrap_or(0);
    // Whoever asked may be gone.
    stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()).ok();
}
