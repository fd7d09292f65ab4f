//! A network, mounts and process ids of our own for each lane, where the kernel gives them.
//!
//! Then the kernel's counts of UDP are this lane's alone, a mount is nobody else's, and whatever a
//! lane started ends with it. Without them the campaign runs all the same: exactness then rests on
//! what the sender knows, and faults that need mounts are said not to be here.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Words of `unshare`, for root and for others.
const WORDS: [&[&str]; 2] = [
    &["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"],
    &["--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"],
];

/// What is done within, before the program: loopback is down in a new network.
const WITHIN: &str = "ip link set lo up && exec \"$@\"";

/// What this machine lets us have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Namespaces by these words of `unshare`.
    Own(&'static [&'static str]),
    /// None.
    Shared,
}

impl Isolation {
    /// Tries.
    pub(crate) fn find() -> Self {
        let works = |words: &&&[&str]| {
            let mut command = unshare(words);
            command.args([
                "sh",
                "-c",
                "mount -t tmpfs -o size=1m none /mnt && ip addr | grep -q 127.0.0.1",
            ]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        WORDS.iter().find(works).map_or(Self::Shared, |words| Self::Own(words))
    }

    /// A command line of `program` within it.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Own(words) => {
                let mut command = unshare(words);
                command.arg(program);
                command
            }
            Self::Shared => Command::new(program),
        }
    }

    /// Whether it is our own.
    pub(crate) fn is_own(self) -> bool {
        self != Self::Shared
    }
}

fn unshare(words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(words).args(["--", "sh", "-c", WITHIN, "lane"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_runs_in_whatever_there_is() {
        let output = Isolation::find().command("echo").arg("within").output().unwrap();
        assert_eq!(output.stdout, b"within\n");
        assert!(!Isolation::Shared.is_own());
    }
}
