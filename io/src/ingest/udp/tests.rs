//! Claims: a port has one daemon, its workers share it, and both address families are taken.
//! Method: real sockets on loopback addresses, port 0.

use std::time::Duration;

use super::*;
use crate::cpu;

fn listener(address: &str, port: u16) -> Listener {
    Listener { address: address.into(), port, is_dual_stack_default: false }
}

#[test]
fn taken_port_is_refused_even_if_its_owner_shares_it() {
    for shared in [false, true] {
        let owner = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        owner.set_reuse_port(shared).unwrap();
        owner.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = owner.local_addr().unwrap().as_socket().unwrap().port();
        let error = open(&listener("127.0.0.1", port), 2, 65_536).unwrap_err();
        // The owner is this very process; others are named in tests/restart_conflict.rs.
        assert_eq!(
            error.to_string(),
            format!(
                "cannot bind 127.0.0.1:{port}: address in use by another server of this \
                 configuration; give each a \"port\" of its own"
            )
        );
    }
}

/// A socket that no process has, as those of a killed one's ring are for a while: on its way between
/// two Unix sockets, until they are dropped.
fn orphaned(socket: UdpSocket) -> [std::os::unix::net::UnixStream; 2] {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [socket.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let bytes = [io::IoSlice::new(b"x")];
    sendmsg(&left, &bytes, &mut control, SendFlags::empty()).unwrap();
    [left, right]
}

#[test]
fn a_port_that_no_process_has_is_waited_for_and_not_for_ever() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let orphan = orphaned(socket);
    let refused = open(&listener("127.0.0.1", port), 1, 65_536);
    assert!(matches!(refused, Err(BindError::AddressInUse { holder: None, .. })), "{refused:?}");
    let end = std::thread::spawn(move || drop(orphan));
    assert!(open(&listener("127.0.0.1", port), 1, 65_536).is_ok());
    end.join().unwrap();
}

#[test]
fn second_daemon_on_the_port_is_refused_and_the_first_keeps_it() {
    let first = open(&listener("127.0.0.1", 0), 3, 65_536).unwrap();
    let port = first.local_address.port();
    let second = open(&listener("127.0.0.1", port), 3, 65_536);
    assert!(matches!(second, Err(BindError::AddressInUse { .. })), "{second:?}");
    let any = open(&listener("0.0.0.0", port), 3, 65_536);
    assert!(matches!(any, Err(BindError::AddressInUse { .. })), "{any:?}");
    drop(first);
    assert!(open(&listener("127.0.0.1", port), 3, 65_536).is_ok());
}

#[test]
fn port_0_is_one_port_for_all_workers_and_flows_spread() {
    let opened = open(&listener("127.0.0.1", 0), 3, 1 << 20).unwrap();
    assert_ne!(opened.local_address.port(), 0);
    for socket in &opened.sockets {
        assert_eq!(socket.local_addr().unwrap(), opened.local_address);
    }
    for _ in 0..64 {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"a:1|c", opened.local_address).unwrap();
    }
    let counts: Vec<usize> = opened.sockets.iter().map(|socket| drain(socket)).collect();
    assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
    // 64 flows miss one of three sockets once in 60,000,000,000 runs.
    assert!(counts.iter().all(|count| 0 < *count), "{counts:?}");
}

fn drain(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| socket.recv(&mut [0; 16]).ok()).count()
}

/// How many of 2,000 datagrams of one flow, sent on CPU `from`, each worker's socket gets.
fn shares_of_one_flow(steering: Steering, cpus: &[usize], from: usize) -> Vec<usize> {
    let opened = [open(&listener("127.0.0.1", 0), cpus.len(), 4 << 20).unwrap()];
    steer_all(&opened, steering, cpus).unwrap();
    let [opened] = opened;
    let target = opened.local_address;
    let sockets = opened.sockets;
    let send = move || {
        cpu::pin(from).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut shares = vec![0; sockets.len()];
        // In rounds, so that no socket overflows where the kernel allows small buffers only.
        for _ in 0..20 {
            for _ in 0..100 {
                sender.send_to(b"a:1|c", target).unwrap();
            }
            for (share, socket) in shares.iter_mut().zip(&sockets) {
                *share += drain(socket);
            }
        }
        shares
    };
    let shares = std::thread::spawn(send).join().unwrap();
    assert_eq!(shares.iter().sum::<usize>(), 2_000, "{shares:?}");
    shares
}

#[test]
fn one_flow_is_steered_to_one_worker_to_all_or_to_that_of_the_cpu() {
    let cpus = cpu::inherited().unwrap();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let hash = shares_of_one_flow(Steering::Hash, &[first; 4], first);
    assert_eq!(hash.iter().filter(|share| 0 < **share).count(), 1, "{hash:?}");
    let random = shares_of_one_flow(Steering::Random, &[first; 4], first);
    // 500 each; below 350 once in 10^14 runs.
    assert!(random.iter().all(|share| 350 < *share), "{random:?}");
    for from in [first, last] {
        // Loopback receives on the CPU of the sender.
        let by_cpu = shares_of_one_flow(Steering::Cpu, &[first, last, first], from);
        let expected = if from == first { [2_000, 0, 0] } else { [0, 2_000, 0] };
        assert_eq!(by_cpu, expected, "sent on {from}");
        // No worker is on that CPU: modulo.
        let absent = [1_000, 1_001, 1_002];
        let by_remainder = shares_of_one_flow(Steering::Cpu, &absent, from);
        assert_eq!(by_remainder[from % 3], 2_000, "{by_remainder:?}, sent on {from}");
    }
}

#[test]
fn one_worker_needs_no_steering_and_a_lone_socket_takes_no_filter() {
    assert_eq!(shares_of_one_flow(Steering::Random, &[0], cpu::inherited().unwrap()[0]), [2_000]);
    let lone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let error = sys::attach_reuseport_filter(&lone, &[nothing]).unwrap_err();
    let error = BindError::Steering { address: lone.local_addr().unwrap(), source: error };
    assert!(error.to_string().ends_with("set ingest.steering to \"hash\""), "{error}");
}

#[test]
fn sockets_of_a_worker_are_one_per_listener() {
    let listeners = [listener("127.0.0.1", 0), listener("127.0.0.2", 0)];
    let opened = open_all(&listeners, 2, 65_536).unwrap();
    let sockets = sockets_of(&opened, 1, 2);
    assert_eq!(sockets.len(), 2);
    assert!(Arc::ptr_eq(&sockets[1], &opened[1].sockets[1]));
}

#[test]
fn default_listener_takes_both_families() {
    let settings = Listener { address: "::".into(), port: 0, is_dual_stack_default: true };
    let opened = open(&settings, 1, 65_536).unwrap();
    let port = opened.local_address.port();
    let mut sent = 0;
    for host in ["127.0.0.1", "::1"] {
        let target = SocketAddr::new(host.parse().unwrap(), port);
        let source = if target.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        // A host without IPv6 has no `::1` to send from.
        if let Ok(sender) = UdpSocket::bind(source) {
            sender.send_to(b"a:1|c", target).unwrap();
            sent += 1;
        }
    }
    opened.sockets[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..sent {
        assert_eq!(opened.sockets[0].recv(&mut [0; 16]).unwrap(), 5);
    }
}

#[test]
fn only_the_errors_of_a_missing_family_lead_to_ipv4() {
    assert!(is_without_ipv6(&io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
    assert!(is_without_ipv6(&io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)));
    assert!(!is_without_ipv6(&io::Error::from_raw_os_error(libc::EACCES)));
    // An address of no interface here: the same error as IPv6 switched off.
    let foreign = Listener { address: "2001:db8::1".into(), port: 0, is_dual_stack_default: true };
    let opened = open(&foreign, 2, 65_536).unwrap();
    assert_eq!(opened.local_address.ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let explicit = Listener { is_dual_stack_default: false, ..foreign };
    assert!(matches!(open(&explicit, 2, 65_536), Err(BindError::Refused { .. })));
}

#[test]
fn names_resolve_to_ipv4_first_and_nonsense_is_refused() {
    let opened = open(&listener("localhost", 0), 1, 65_536).unwrap();
    assert!(opened.local_address.ip().is_loopback());
    let error = open(&listener("no address", 0), 1, 65_536).unwrap_err();
    assert!(error.to_string().starts_with("cannot bind \"no address\": "), "{error}");
}

#[test]
fn too_many_listeners_are_refused() {
    let listeners = vec![listener("127.0.0.1", 0); LISTENERS_MAX + 1];
    let error = open_all(&listeners, 1, 65_536).unwrap_err();
    assert!(matches!(error, BindError::TooManyListeners { found: 33 }));
}

#[test]
fn warning_names_the_sysctl_only_where_the_kernel_clamped() {
    let mut opened = open(&listener("127.0.0.1", 0), 1, 65_536).unwrap();
    assert_eq!(opened.receive_buffer_bytes, 131_072);
    assert_eq!(opened.receive_buffer_warning(), None);
    opened.receive_buffer_bytes_asked = 8 << 20;
    opened.receive_buffer_bytes = 425_984;
    let warning = opened.receive_buffer_warning().unwrap();
    let detail =
        "is 212992 bytes, 8388608 asked: 512 small datagrams, 0.5 ms at a million per second;";
    assert!(warning.contains(detail), "{warning}");
    assert!(warning.ends_with("run: sysctl -w net.core.rmem_max=8388608"), "{warning}");
    opened.receive_buffer_bytes = 2 * RECEIVE_BUFFER_BYTES_WARN - 2;
    assert!(opened.receive_buffer_warning().is_some());
    opened.receive_buffer_bytes += 2;
    assert_eq!(opened.receive_buffer_warning(), None);
    // Who asks for more than the default wants it.
    opened.receive_buffer_bytes_asked = 32 << 20;
    let warning = opened.receive_buffer_warning().unwrap();
    assert!(warning.contains("is 4194304 bytes, 33554432 asked:"), "{warning}");
    opened.receive_buffer_bytes = 64 << 20;
    assert_eq!(opened.receive_buffer_warning(), None);
}

/// Opens the listener of `given` again, as a successor does.
fn open_again(given: &OpenListener, workers: usize) -> OpenListener {
    let sockets = given
        .sockets
        .iter()
        .map(|socket| (OwnedFd::from(socket.try_clone().unwrap()), "floe".to_owned()));
    let at = given.local_address;
    let asked = [listener(&at.ip().to_string(), at.port())];
    let opened = open_all_given(&asked, workers, 65_536, &mut GivenSockets::new(sockets)).unwrap();
    let mut opened = opened.into_iter().next().unwrap();
    assert_eq!(opened.bound, given.sockets.len(), "whoever reads is not there yet");
    opened.bind_rest();
    opened
}

#[test]
fn given_sockets_are_shared_out_and_missing_ones_are_added() {
    for (before, workers) in [(1, 3), (3, 3), (4, 3), (3, 1)] {
        let first = open(&listener("127.0.0.1", 0), before, 65_536).unwrap();
        let again = [open_again(&first, workers)];
        assert_eq!((again[0].given, again[0].sockets.len()), (before, before.max(workers)));
        assert_eq!(again[0].local_address, first.local_address);
        let each = (0..workers).map(|index| sockets_of(&again, index, workers).len());
        assert_eq!(each.sum::<usize>(), before.max(workers), "every socket has a reader");
        drop(first);
        for _ in 0..64 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"a:1|c", again[0].local_address).unwrap();
        }
        let found = (0..workers).flat_map(|index| sockets_of(&again, index, workers));
        assert_eq!(found.map(|socket| drain(&socket)).sum::<usize>(), 64);
    }
}

#[test]
fn what_is_added_to_given_sockets_gets_nothing_before_it_is_bound() {
    let first = open(&listener("127.0.0.1", 0), 1, 65_536).unwrap();
    let socket = (OwnedFd::from(first.sockets[0].try_clone().unwrap()), "floe".to_owned());
    let asked = [listener("127.0.0.1", first.local_address.port())];
    let mut given = GivenSockets::new([socket]);
    let mut again = open_all_given(&asked, 3, 65_536, &mut given).unwrap().remove(0);
    let send = || {
        for _ in 0..32 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"a:1|c", first.local_address).unwrap();
        }
    };
    send();
    assert_eq!(drain(&first.sockets[0]), 32, "the one before us still has all of it");
    again.bind_rest();
    assert_eq!(again.bound, 3);
    send();
    let all: usize = again.sockets.iter().map(|socket| drain(socket)).sum();
    assert_eq!(all, 32);
}

#[test]
fn given_sockets_that_have_trains_are_known() {
    let first = open(&listener("127.0.0.1", 0), 2, 65_536).unwrap();
    assert!(!have_trains(&[open_again(&first, 2)]));
    coalesce_all(&[open_again(&first, 2)], true).unwrap();
    assert!(have_trains(&[open_again(&first, 3)]));
    coalesce_all(&[open_again(&first, 2)], false).unwrap();
    assert!(have_trains(&[open_again(&first, 1)]), "what waits in them may be one");
    assert!(!have_trains(std::slice::from_ref(&first)), "they are not given here");
}

#[test]
fn a_given_group_is_steered_as_the_settings_say_and_no_more() {
    let first = open(&listener("127.0.0.1", 0), 4, 4 << 20).unwrap();
    let cpu = cpu::inherited().unwrap()[0];
    first.steer(Steering::Random, &[cpu; 4]).unwrap();
    let again = open_again(&first, 4);
    for (steering, is_one) in [(Steering::Random, false), (Steering::Hash, true)] {
        again.steer(steering, &[cpu; 4]).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Few enough for the buffer of one socket.
        for _ in 0..100 {
            sender.send_to(b"a:1|c", again.local_address).unwrap();
        }
        let shares: Vec<usize> = again.sockets.iter().map(|socket| drain(socket)).collect();
        assert_eq!(shares.iter().sum::<usize>(), 100);
        assert_eq!(shares.iter().filter(|share| 0 < **share).count() == 1, is_one, "{shares:?}");
    }
}
