//! The bare `recvmmsg` loop: sleeps in the call until there is a datagram, takes up to 64.

use std::io;
use std::os::fd::AsRawFd;

use super::bare_loop::{BUFFER_BYTES, IDLE_LIMIT, Post, newlines};

/// Datagrams of one call at the most.
const MESSAGES: usize = 64;

/// Receives until it is told to stop.
pub(crate) fn run(post: &Post) -> io::Result<()> {
    post.socket.set_read_timeout(Some(IDLE_LIMIT))?;
    let mut buffers = vec![[1_u8; BUFFER_BYTES]; MESSAGES];
    let start = buffers.as_mut_ptr();
    let mut vectors: Vec<libc::iovec> = (0..MESSAGES)
        .map(|index| libc::iovec {
            iov_base: start.wrapping_add(index).cast(),
            iov_len: BUFFER_BYTES,
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = vectors.iter_mut().map(header).collect();
    post.tell_ready();
    while !post.counts.has_to_stop() {
        match receive(&mut headers, post.socket.as_raw_fd()) {
            Ok(count) => {
                let filled = headers[..count].iter().zip(&buffers);
                let found: u64 = filled
                    .map(|(header, buffer)| newlines(&buffer[..header.msg_len as usize]))
                    .sum();
                post.counts.add(count as u64, found);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn header(vector: &mut libc::iovec) -> libc::mmsghdr {
    #[expect(unsafe_code, reason = "the header has private padding on some targets")]
    // SAFETY:
    // - null pointers and zero lengths are valid values of every field.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = &raw mut *vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// One call, which waits for the first datagram.
fn receive(headers: &mut [libc::mmsghdr], fd: i32) -> io::Result<usize> {
    let count = libc::c_uint::try_from(headers.len()).expect("MESSAGES is small");
    #[expect(unsafe_code, reason = "no safe crate offers recvmmsg")]
    // SAFETY:
    // - `headers` is valid for reading and writing `count` elements: its own length;
    // - each header's one iovec is alive and points to BUFFER_BYTES bytes of its own, both kept by
    //   `run`, which borrows the buffers only between two calls;
    // - names and control data are null with length zero; the null timeout means none.
    let result = unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_WAITFORONE, std::ptr::null_mut())
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
