//! A disk in a file: an ext4 whose image can be copied at any instant, which is what the disk would
//! hold if the power went then.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::world::mount;

/// Tries of one copy: a journal that is written back meanwhile spoils it.
const COPIES_MAX: usize = 20;

/// Whether this machine has what it takes: the tools, and root for the loop device.
pub(crate) fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
        && Path::new("/dev/loop-control").exists()
        && Command::new("mkfs.ext4").arg("-V").output().is_ok_and(|told| told.status.success())
}

/// Makes an image of `mib` MiB at `image`, and mounts it at `place`.
///
/// # Errors
/// What the tools say.
pub(crate) fn make(image: &Path, mib: u32, place: &Path) -> anyhow::Result<()> {
    fs::File::create(image)?.set_len(u64::from(mib) << 20)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
    attach(image, place)
}

/// Mounts `image` at `place`.
///
/// # Errors
/// What `mount` says.
pub(crate) fn attach(image: &Path, place: &Path) -> anyhow::Result<()> {
    let image = image.to_str().context("a folder with a plain name")?;
    mount(&["-t", "ext4", "-o", "loop", image], place)
}

/// Copies what the disk `image` holds at this instant; whoever writes to it stands still meanwhile.
///
/// # Errors
/// When the disk is never quiet for as long as a copy takes.
pub(crate) fn copy(image: &Path, to: &Path) -> anyhow::Result<()> {
    for _ in 0..COPIES_MAX {
        let before = writes(image)?;
        run(Command::new("cp").arg("--sparse=always").arg(image).arg(to))?;
        if before == writes(image)? {
            return Ok(());
        }
    }
    anyhow::bail!("the disk is never quiet")
}

/// Writes that the loop device of `image` has completed, as the kernel counts them.
fn writes(image: &Path) -> anyhow::Result<String> {
    for device in fs::read_dir("/sys/block")?.flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        if backing.is_ok_and(|backing| Path::new(backing.trim_end()) == image) {
            let stat = fs::read_to_string(device.path().join("stat"))?;
            // Read requests come and go; what matters is the fields of writes.
            return Ok(stat.split_whitespace().skip(4).take(4).collect::<Vec<_>>().join(" "));
        }
    }
    anyhow::bail!("{} is not mounted", image.display())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| name.clone())?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
