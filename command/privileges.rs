//! Another user than root: who starts the daemon as root, for its limits, names whom it goes on as.
//!
//! Nothing of floe needs root, so it is left before anything else is done: groups, group and user, all
//! capabilities with the way back to them, and every program that would give them. The kernel changes
//! users thread by thread, hence while there is only one. Users are looked up in `/etc/passwd` alone:
//! asking a directory service would run its code as root; its users are given by number.

use std::fs;
use std::io;

use anyhow::{Context as _, anyhow, bail};
use rustix::fs::{Gid, Uid};
use rustix::process::set_dumpable_behavior;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// Where users are looked up.
const PASSWD: &str = "/etc/passwd";

/// Locked memory that rings may take under the new user, bytes: as in the unit of systemd.
const LOCKED_BYTES: u64 = 64 << 20;

/// Open files, if root may not open more already.
const FILES: u64 = 65_536;

/// A user to go on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    id: u32,
    group: u32,
}

/// Goes on as `name`, for good; a process that is that user already stays as it is.
///
/// # Errors
/// An unknown user, or one that this process may not become.
pub(super) fn leave_root_for(name: &str) -> anyhow::Result<()> {
    let users = fs::read_to_string(PASSWD).unwrap_or_default();
    let user = user(name, &users)?;
    if geteuid().as_raw() == user.id && user.id != 0 {
        return Ok(());
    }
    if user.id == 0 {
        bail!("--user {name} is root; name the user to go on as");
    }
    if !geteuid().is_root() {
        bail!("--user {name} needs to be started as root, or as {name}");
    }
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() != 1) {
        bail!("--user {name} comes too late, other threads run already");
    }
    raise(Resource::Nofile, FILES);
    raise(Resource::Memlock, LOCKED_BYTES);
    become_user(user).with_context(|| format!("cannot go on as {name}"))
}

fn become_user(user: User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.id), Gid::from_raw(user.group));
    // What the bounding set has not, no program gives any more. Numbers the kernel does not know end it.
    for capability in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << capability);
        if remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    // Permitted, effective and ambient capabilities go with the last id of root.
    set_thread_res_uid(uid, uid, uid)?;
    set_no_new_privs(true)?;
    // Else what `/proc/self` has would go on belonging to root; there are no secrets in memory.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    if set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
        return Err(io::Error::other("there is a way back to root"));
    }
    Ok(())
}

/// Lets the process have at least `amount`; what it may have already stays.
fn raise(resource: Resource, amount: u64) {
    let limit = getrlimit(resource);
    let larger = |known: Option<u64>| known.map(|known| known.max(amount));
    let raised = Rlimit { current: larger(limit.current), maximum: larger(limit.maximum) };
    // Refused where the system has less: the daemon says so when it is short of it.
    setrlimit(resource, raised).ok();
}

/// The user `name`, or `UID:GID` by number, in a text like that of `/etc/passwd`.
fn user(name: &str, users: &str) -> anyhow::Result<User> {
    let numbers = name
        .split_once(':')
        .and_then(|(id, group)| Some(User { id: id.parse().ok()?, group: group.parse().ok()? }));
    if let Some(user) = numbers {
        return Ok(user);
    }
    let unknown =
        || anyhow!("--user {name} is not in {PASSWD}; name one that is, or give numbers: UID:GID");
    let line = users.lines().find(|line| line.split(':').next() == Some(name));
    let mut fields = line.ok_or_else(unknown)?.split(':').skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(id)), Some(Ok(group))) => Ok(User { id, group }),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_or_given_by_numbers() {
        let users = "root:x:0:0:root:/root:/bin/sh\nfloe:x:990:980::/:/bin/false\nbroken:x:a:b\n";
        assert_eq!(user("floe", users).unwrap(), User { id: 990, group: 980 });
        assert_eq!(user("65534:65533", "").unwrap(), User { id: 65_534, group: 65_533 });
        for name in ["flo", "", "floe:x", "-1:0", "broken", "990", "x"] {
            let said = user(name, users).unwrap_err().to_string();
            assert!(said.contains("UID:GID"), "{name}: {said}");
        }
    }

    #[test]
    fn root_is_no_user_to_go_on_as() {
        assert!(leave_root_for("0:0").is_err());
    }
}
