//! System calls that no safe crate offers, and the wake-up of sleeping threads.
//!
//! The home of `unsafe` for memory mappings and socket options; what it exports is safe but for
//! `Mapping::slice`, whose obligation only the owner of the mapping can meet.
//! Nothing here decides anything: policies live in `crate::ingest` and `crate::ring`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::process::Pid;

/// `SO_MEMINFO` of asm-generic/socket.h; the libc crate has no name for it.
const SO_MEMINFO: libc::c_int = 55;

/// `SO_DETACH_REUSEPORT_BPF` of asm-generic/socket.h.
const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;

/// Values that `SO_MEMINFO` returns (`SK_MEMINFO_VARS`).
const MEMINFO_COUNT: usize = 9;

/// Index of the drops among them (`SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;

/// An event that wakes who sleeps on it, a worker, the admin port or the exporters: an eventfd.
///
/// Set from any thread; seen by a ring or `ppoll`. Wake-ups that come before somebody looks are one
/// wake-up.
#[derive(Debug)]
pub struct WakeUp {
    event: OwnedFd,
}

impl WakeUp {
    /// A wake-up that is not set.
    ///
    /// # Errors
    /// The kernel's, when the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event })
    }

    /// Sets it; a worker begins a batch within about 4 ms.
    pub fn wake(&self) {
        // EAGAIN means that the counter is full, hence set; an eventfd knows no other error.
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
    }

    /// Clears it; true if it was set.
    pub fn clear(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&self.event, &mut count).is_ok()
    }

    /// Waits until it is set or `limit` has passed; true if it is set. Does not clear it.
    pub fn wait(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(limit))), Ok(1))
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A duration as `ppoll` takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Whether an error of binding says that this host has no IPv6.
pub(crate) fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Asks for a receive buffer of `bytes`, over `net.core.rmem_max` where we may; returns what the
/// kernel reports then, bytes of accounting (twice what it granted).
///
/// # Errors
/// The kernel's, when the descriptor is not a socket.
pub fn set_receive_buffer_bytes(socket: impl AsFd, bytes: usize) -> io::Result<usize> {
    use rustix::net::sockopt;
    let socket = socket.as_fd();
    // The kernel doubles the value in 31 bits.
    let bytes = bytes.min(1 << 30);
    match sockopt::set_socket_recv_buffer_size_force(socket, bytes) {
        Ok(()) => {}
        // Without CAP_NET_ADMIN the request is clamped in silence, which the reading shows.
        Err(Errno::PERM) => sockopt::set_socket_recv_buffer_size(socket, bytes)?,
        Err(error) => return Err(error.into()),
    }
    Ok(sockopt::socket_recv_buffer_size(socket)?)
}

/// Datagrams the kernel has dropped at this socket since it was made, modulo 2^32
/// (`SO_MEMINFO`, `sk_drops`).
///
/// # Errors
/// The kernel's: not a socket, or a kernel before 4.12.
pub fn socket_drops(socket: impl AsFd) -> io::Result<u32> {
    let mut values = [0_u32; MEMINFO_COUNT];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&values)).expect("36 bytes fit");
    #[expect(unsafe_code, reason = "no safe crate offers SO_MEMINFO")]
    // SAFETY:
    // - the value pointer is valid for `bytes` bytes of writing: it is `values`, of that size;
    // - the length pointer is valid for reading and writing: it is the local `bytes`;
    // - any bit pattern the kernel writes is a valid u32.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (bytes as usize) < size_of_val(&values) {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(values[MEMINFO_DROPS])
}

/// What the kernel knows a socket by until it boots again, in every process that holds it; 0 where it
/// does not say (before 4.12).
pub(crate) fn cookie_of(socket: impl AsFd) -> u64 {
    rustix::net::sockopt::socket_cookie(socket).unwrap_or(0)
}

/// How datagrams are cut and joined on their way through a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpOffload {
    /// `UDP_GRO`: what came as a train is received as one.
    Joined,
    /// `UDP_SEGMENT`: what is sent is cut into datagrams of so many bytes.
    Cut(u16),
}

/// Sets an option of a UDP socket.
///
/// # Errors
/// The kernel's: not a UDP socket, or a kernel before 5.0.
pub fn set_udp_offload(socket: impl AsFd, offload: UdpOffload) -> io::Result<()> {
    let (name, value) = match offload {
        UdpOffload::Joined => (libc::UDP_GRO, 1),
        UdpOffload::Cut(bytes) => (libc::UDP_SEGMENT, libc::c_int::from(bytes)),
    };
    let bytes = libc::socklen_t::try_from(size_of_val(&value)).expect("4 bytes fit");
    #[expect(unsafe_code, reason = "no safe crate offers these options")]
    // SAFETY:
    // - the value pointer is valid for `bytes` bytes of reading: it is the local `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            name,
            (&raw const value).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether trains are received as one (`UDP_GRO`); false where the kernel does not say.
pub(crate) fn has_udp_trains(socket: impl AsFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut bytes = libc::socklen_t::try_from(size_of_val(&value)).expect("4 bytes fit");
    #[expect(unsafe_code, reason = "no safe crate offers this option")]
    // SAFETY:
    // - the value pointer is valid for `bytes` bytes of writing: it is the local `value`;
    // - the length pointer is to the local `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    result == 0 && value != 0
}

/// Puts a classic BPF program on the group of sockets that share a port with `socket`; it returns the
/// index of the one that gets a datagram.
///
/// # Errors
/// The kernel's, when the socket is in no group or the program is not accepted.
pub(crate) fn attach_reuseport_filter(
    socket: impl AsFd,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    let bytes = libc::socklen_t::try_from(size_of_val(&program)).expect("16 bytes fit");
    #[expect(unsafe_code, reason = "no safe crate offers SO_ATTACH_REUSEPORT_CBPF")]
    // SAFETY:
    // - the value pointer is valid for `bytes` bytes of reading: it is the local `program`;
    // - its filter is valid for reading `len` instructions: both are those of one slice, borrowed for
    //   the call, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the program of [`attach_reuseport_filter`] off again.
///
/// # Errors
/// `ENOENT` where there is none.
pub(crate) fn detach_reuseport_filter(socket: impl AsFd) -> io::Result<()> {
    let nothing: libc::c_int = 0;
    let bytes = libc::socklen_t::try_from(size_of_val(&nothing)).expect("4 bytes fit");
    #[expect(unsafe_code, reason = "no safe crate offers SO_DETACH_REUSEPORT_BPF")]
    // SAFETY:
    // - the value pointer is valid for `bytes` bytes of reading: it is the local `nothing`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_DETACH_REUSEPORT_BPF,
            (&raw const nothing).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor that the process was started with, as its owner.
///
/// `None` where it is not open, or was taken over before: each number is given once.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    if !TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
        return None;
    }
    #[expect(unsafe_code, reason = "a number of the environment becomes a descriptor")]
    // SAFETY:
    // - the number is not -1: the service manager counts from 3;
    // - nobody else closes it: the process was started with it, nothing of ours opens descriptors
    //   by that number before the start has taken these over, and each is given once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if rustix::io::fcntl_getfd(&fd).is_err() {
        // Not open: to be closed by nobody.
        std::mem::forget(fd);
        return None;
    }
    Some(fd)
}

/// How the kernel schedules a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// `SCHED_BATCH`: its waking up takes the CPU from nobody.
    Batch {
        /// -20 to 19; lower than the thread has needs a privilege.
        nice: i32,
    },
}

/// Sets policy and nice value of `thread` in one step.
///
/// # Errors
/// `ESRCH` once the thread has ended, `EPERM` for a nice value below the thread's own.
pub(crate) fn set_schedule(thread: Pid, schedule: Schedule) -> Result<(), Errno> {
    let Schedule::Batch { nice } = schedule;
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).expect("48 bytes fit"),
        sched_policy: u32::try_from(libc::SCHED_BATCH).expect("a positive constant"),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "no safe crate offers sched_setattr")]
    // SAFETY:
    // - the pointer is valid for reading `size` bytes, which the structure itself states;
    // - the kernel keeps nothing of it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            thread.as_raw_nonzero().get(),
            &raw const attributes,
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The drops of one socket between readings of a counter that wraps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketDrops {
    seen: u32,
}

impl SocketDrops {
    /// The drops after `reading`.
    #[must_use]
    pub fn after(reading: u32) -> Self {
        Self { seen: reading }
    }

    /// The reading that was taken last.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// Takes a reading of [`socket_drops`]; returns the drops since the previous one.
    ///
    /// Correct as long as fewer than 2^32 datagrams are dropped between two readings.
    pub fn record(&mut self, reading: u32) -> u64 {
        let new = u64::from(reading.wrapping_sub(self.seen));
        self.seen = reading;
        new
    }
}

/// Anonymous zeroed memory, page-aligned; pages never touched cost nothing.
///
/// The kernel writes into it behind the compiler's back, so it is reached by pointer, and by slice
/// only where the owner knows that a part is at rest.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes`, rounded up to pages by the kernel.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        #[expect(unsafe_code, reason = "a mapping is the only page-aligned lazily backed memory")]
        // SAFETY:
        // - no existing memory is affected: the address is null and MAP_FIXED is not given, so the
        //   kernel chooses free addresses.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        let start = NonNull::new(start.cast()).expect("the kernel never maps page 0 unasked");
        let mapping = Self { start, bytes };
        // With huge pages the first touch of each buffer would back 31 of its neighbours. Kernels
        // built without them answer EINVAL, and then there is nothing to turn off.
        #[expect(unsafe_code, reason = "madvise is unsafe for advices that discard memory")]
        // SAFETY:
        // - the range is exactly the mapping made above, owned by `mapping`;
        // - MADV_NOHUGEPAGE changes how pages are backed, never their content.
        let advised = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) };
        advised.ok();
        Ok(mapping)
    }

    /// Address of the byte at `offset`.
    #[inline]
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes, "offset {offset} beyond a mapping of {} bytes", self.bytes);
        #[expect(unsafe_code, reason = "an address inside a mapping")]
        // SAFETY:
        // - the result lies inside the mapping, asserted above;
        // - a mapping is smaller than isize::MAX, or mmap would have failed.
        unsafe {
            self.start.add(offset)
        }
    }

    /// The `len` bytes at `offset`.
    ///
    /// # Safety
    /// Neither the kernel nor any thread may write these bytes while the borrow lives.
    #[expect(unsafe_code, reason = "a slice over memory the kernel fills")]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(len <= self.bytes && offset <= self.bytes - len, "slice beyond the mapping");
        let start = self.at(offset).as_ptr();
        // SAFETY:
        // - in bounds: asserted above;
        // - initialised: anonymous memory is zeroed, and whatever was written since is bytes;
        // - alive: the mapping is owned by `self`, which the result borrows;
        // - not written meanwhile: passed on to the caller.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "munmap ends the mapping")]
        // SAFETY:
        // - the range is exactly the one mapped in `new`;
        // - nothing refers to it: slices borrow `self`, and owners that gave addresses to the
        //   kernel take them back before they drop the mapping.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(result.is_ok(), "munmap of our own mapping failed: {result:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn wake_up_is_seen_once_after_any_number_of_wakes() {
        let wake_up = WakeUp::new().unwrap();
        assert!(!wake_up.clear());
        assert!(!wake_up.wait(Duration::ZERO));
        wake_up.wake();
        wake_up.wake();
        assert!(wake_up.wait(Duration::from_secs(10)));
        assert!(wake_up.clear());
        assert!(!wake_up.clear());
    }

    #[test]
    fn socket_drops_count_an_overflow_exactly() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The kernel's minimum: a few datagrams.
        let effective = set_receive_buffer_bytes(&receiver, 1).unwrap();
        assert!(effective < 10_000, "{effective}");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(b"a:1|c", receiver.local_addr().unwrap()).unwrap();
        }
        // Loopback delivers or drops within the send call.
        receiver.set_nonblocking(true).unwrap();
        let mut received = 0;
        while receiver.recv(&mut [0; 16]).is_ok() {
            received += 1;
        }
        assert!(received < 100);
        assert_eq!(socket_drops(&receiver).unwrap(), 100 - received);
    }

    #[test]
    fn socket_drops_of_something_else_is_an_error() {
        assert!(socket_drops(WakeUp::new().unwrap()).is_err());
        assert!(set_receive_buffer_bytes(WakeUp::new().unwrap(), 4096).is_err());
    }

    #[test]
    fn receive_buffer_is_reported_as_the_kernel_accounts_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(set_receive_buffer_bytes(&socket, 65_536).unwrap(), 131_072);
        assert!(set_receive_buffer_bytes(&socket, usize::MAX).is_ok());
    }

    #[test]
    fn drops_are_counted_across_the_wrap_of_the_kernel_counter() {
        let mut drops = SocketDrops::default();
        assert_eq!(drops.record(u32::MAX - 1), u64::from(u32::MAX - 1));
        assert_eq!(drops.record(3), 5);
    }

    #[test]
    fn mapping_is_zeroed_and_page_aligned() {
        let mapping = Mapping::new(3 * 4096).unwrap();
        assert_eq!(mapping.at(0).as_ptr().align_offset(4096), 0);
        #[expect(unsafe_code, reason = "reads a mapping nobody writes")]
        // SAFETY:
        // - nobody has the address of this mapping but this test.
        let bytes = unsafe { mapping.slice(0, 3 * 4096) };
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    #[should_panic(expected = "beyond a mapping")]
    fn address_beyond_the_mapping_is_refused() {
        Mapping::new(4096).unwrap().at(4096);
    }
}
