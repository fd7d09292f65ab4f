//! Which socket of a group gets a datagram, where it is not the kernel's hash.
//!
//! A classic BPF program on the group returns the index of a socket, in the order of their binding,
//! which is that of the workers (docs/references.md K2). Random spreading costs the order of a
//! sender's datagrams, hence of its gauges; nothing else, for a flush merges all workers.

use std::io;

use floe_core::config::settings::Steering;
use libc::sock_filter;

use super::OpenListener;
use crate::sys;

/// Offset of the kernel's own values (`SKF_AD_OFF`).
const ANCILLARY: u32 = (-0x1000_i32).cast_unsigned();

/// The CPU that receives the datagram (`SKF_AD_CPU`).
const ANCILLARY_CPU: u32 = ANCILLARY + 36;

/// A random number (`SKF_AD_RANDOM`).
const ANCILLARY_RANDOM: u32 = ANCILLARY + 56;

// Codes of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const MODULO: u16 = 0x94;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
const JUMP_IF_EQUAL: u16 = 0x15;

impl OpenListener {
    /// Makes the kernel share datagrams out by `steering`; `cpus`: of each worker, index = worker.
    ///
    /// # Errors
    /// The kernel's: a filter may be refused by a seccomp profile or a security module.
    pub(super) fn steer(&self, steering: Steering, cpus: &[usize]) -> io::Result<()> {
        // One socket is no group, and gets everything.
        match self.sockets.as_slice() {
            [first, _, ..] if steering != Steering::Hash => {
                let program = program(steering, cpus, self.sockets.len());
                sys::attach_reuseport_filter(first, &program)
            }
            [first, _, ..] if 0 < self.given => {
                // Of whoever had them before; most have none, which is the answer then.
                sys::detach_reuseport_filter(first).ok();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The program over the workers on `cpus`, who have so many `sockets` by turns; empty for the kernel's
/// own hash.
fn program(steering: Steering, cpus: &[usize], sockets: usize) -> Vec<sock_filter> {
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let number = |number: usize| u32::try_from(number).expect("workers and CPUs are few");
    let mut program = match steering {
        Steering::Hash => return Vec::new(),
        Steering::Random => vec![step(LOAD_WORD, ANCILLARY_RANDOM)],
        Steering::Cpu => vec![step(LOAD_WORD, ANCILLARY_CPU)],
    };
    if steering == Steering::Cpu {
        // The worker on that CPU; the first, where several share it.
        for (index, cpu) in cpus.iter().enumerate().take(sockets) {
            program.push(sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number(*cpu) });
            program.push(step(RETURN_CONSTANT, number(index)));
        }
    }
    program.push(step(MODULO, number(sockets)));
    program.push(step(RETURN_ACCUMULATOR, 0));
    program
}
