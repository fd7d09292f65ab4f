//! From `host:port` to addresses, at every connect.
//!
//! Names are looked up on a thread of their own, because the C library's look-up can neither be
//! bounded nor interrupted: a name server that is down must not hold up a stop. At most one look-up
//! per backend runs; the next waits for the same one. While the name server fails the last good
//! addresses serve on; while it hangs they do at once after the first wait, or the backend would fall
//! behind by a wait per connection though it is there.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};

use super::error::ExportError;
use super::stop::Stop;
use crate::clock::{duration_ns, monotonic_ns};

/// Between two looks at the stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long an answer is waited for where the one before was late and there are addresses: a name server
/// that has recovered answers within this, mostly.
const LATE_PATIENCE: Duration = Duration::from_millis(100);

type Answer = io::Result<Vec<SocketAddr>>;

/// The addresses of one backend.
#[derive(Debug)]
pub(crate) struct Resolver {
    address: String,
    last_good: Vec<SocketAddr>,
    running: Option<Receiver<Answer>>,
    /// Whether an answer did not come in time, and none has come since.
    is_late: bool,
}

impl Resolver {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), last_good: Vec::new(), running: None, is_late: false }
    }

    /// All addresses, in the resolver's order; never an empty list.
    ///
    /// # Errors
    /// [`ExportError::Resolve`] if there is none and never was; [`ExportError::Stopped`].
    pub(crate) fn addresses(
        &mut self,
        patience: Duration,
        stop: &Stop,
    ) -> Result<&[SocketAddr], ExportError> {
        if let Ok(literal) = self.address.parse() {
            self.last_good = vec![literal];
            return Ok(&self.last_good);
        }
        let has_good = !self.last_good.is_empty();
        let patience = if self.is_late && has_good { LATE_PATIENCE } else { patience };
        let answer = self.look_up(patience, stop)?;
        let source = match answer {
            Ok(addresses) if !addresses.is_empty() => {
                // An error that took its time is no answer: the next one would take it too.
                self.is_late = false;
                self.last_good = addresses;
                return Ok(&self.last_good);
            }
            Ok(_) => io::Error::from(io::ErrorKind::NotFound),
            Err(source) => source,
        };
        if self.last_good.is_empty() {
            return Err(ExportError::Resolve { address: self.address.clone(), source });
        }
        tracing::debug!(address = self.address, %source, "last good addresses used");
        Ok(&self.last_good)
    }

    /// The addresses known now, without waiting: takes the answer of a look-up that has ended, and
    /// starts one if `is_due` and none runs.
    pub(crate) fn known(&mut self, is_due: bool) -> &[SocketAddr] {
        if let Ok(literal) = self.address.parse() {
            self.last_good = vec![literal];
            return &self.last_good;
        }
        if self.running.is_none() && is_due {
            self.running = start(self.address.clone()).ok();
        }
        let answer = self.running.as_ref().map(Receiver::try_recv);
        match answer {
            Some(Err(TryRecvError::Empty)) | None => {}
            Some(ended) => {
                self.running = None;
                if let Ok(Ok(addresses)) = ended
                    && !addresses.is_empty()
                {
                    self.last_good = addresses;
                }
            }
        }
        &self.last_good
    }

    fn look_up(&mut self, patience: Duration, stop: &Stop) -> Result<Answer, ExportError> {
        let until_ns = monotonic_ns().saturating_add(duration_ns(patience));
        let running = match self.running.take() {
            Some(running) => running,
            None => match start(self.address.clone()) {
                Ok(running) => running,
                Err(error) => return Ok(Err(error)),
            },
        };
        loop {
            match running.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(io::Error::other("the look-up ended without an answer")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_late = until_ns <= monotonic_ns();
            if is_late || stop.is_over() {
                self.running = Some(running);
                self.is_late |= is_late;
                let late = Ok(Err(io::ErrorKind::TimedOut.into()));
                return if is_late { late } else { Err(ExportError::Stopped) };
            }
        }
    }
}

fn start(address: String) -> io::Result<Receiver<Answer>> {
    let (sender, running) = bounded(1);
    std::thread::Builder::new().name("export-resolve".into()).spawn(move || {
        let answer = address.to_socket_addrs().map(Iterator::collect);
        // Nobody listens after a stop; the answer is not needed then.
        drop(sender.send(answer));
    })?;
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(resolver: &mut Resolver) -> Result<Vec<SocketAddr>, ExportError> {
        let stop = Stop::new().unwrap();
        resolver.addresses(Duration::from_secs(10), &stop).map(<[SocketAddr]>::to_vec)
    }

    #[test]
    fn literal_addresses_need_no_name_server() {
        let mut resolver = Resolver::new("[::1]:2003");
        assert_eq!(resolve(&mut resolver).unwrap(), ["[::1]:2003".parse::<SocketAddr>().unwrap()]);
        assert!(resolver.running.is_none());
    }

    #[test]
    fn localhost_has_an_address() {
        let addresses = resolve(&mut Resolver::new("localhost:2003")).unwrap();
        assert!(addresses.iter().all(|address| address.port() == 2003));
        assert!(!addresses.is_empty());
    }

    #[test]
    fn address_without_port_is_an_error_that_names_it() {
        let error = resolve(&mut Resolver::new("localhost")).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve localhost: "), "{error}");
        assert!(!error.is_retryable());
    }

    #[test]
    fn last_good_addresses_serve_while_names_fail() {
        let mut resolver = Resolver::new("localhost:2003");
        let good = resolve(&mut resolver).unwrap();
        resolver.address = "localhost".into();
        assert_eq!(resolve(&mut resolver).unwrap(), good);
    }

    #[test]
    fn a_name_server_that_hangs_is_waited_for_once_where_there_are_addresses() {
        let hour = Duration::from_secs(3_600);
        let mut resolver = Resolver::new("never:2003");
        let good: Vec<SocketAddr> = vec!["127.0.0.1:2003".parse().unwrap()];
        let (answer, running) = bounded(1);
        resolver.running = Some(running);
        let stop = Stop::new().unwrap();
        let error = resolver.addresses(Duration::ZERO, &stop).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve never:2003: "), "{error}");
        resolver.last_good.clone_from(&good);
        // The patience of an hour is not made use of.
        assert_eq!(resolver.addresses(hour, &stop).unwrap(), good);
        assert!(resolver.running.is_some(), "it is still asked");
        answer.send(Err(io::ErrorKind::TimedOut.into())).unwrap();
        assert_eq!(resolver.addresses(hour, &stop).unwrap(), good);
        let (answer, running) = bounded(1);
        resolver.running = Some(running);
        assert_eq!(resolver.addresses(hour, &stop).unwrap(), good, "nor is the next look-up");
        let moved: Vec<SocketAddr> = vec!["127.0.0.2:2003".parse().unwrap()];
        answer.send(Ok(moved.clone())).unwrap();
        assert_eq!(resolver.addresses(hour, &stop).unwrap(), moved);
        assert!(!resolver.is_late, "the next answer is waited for again");
    }

    #[test]
    fn stop_does_not_wait_for_a_name_server() {
        let mut resolver = Resolver::new("never:2003");
        let (_sender, running) = bounded(1);
        resolver.running = Some(running);
        let stop = Stop::new().unwrap();
        stop.request(monotonic_ns());
        let error = resolver.addresses(Duration::from_secs(3_600), &stop).unwrap_err();
        assert!(matches!(error, ExportError::Stopped), "{error}");
        assert!(resolver.running.is_some());
    }
}
