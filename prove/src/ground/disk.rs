//! A small disk in memory, which can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::GroundError;
use super::guardian::Guardian;

/// A write may come between looking and filling.
const TRIES: usize = 20;

/// A disk of its own at a folder. Dropped, it is gone with all that is on it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    megabytes: u32,
    _guardian: Guardian,
}

impl SmallDisk {
    /// Puts it at `folder`, which is there.
    ///
    /// # Errors
    /// When this user may not mount; says what to do.
    pub fn mount(folder: &Path, megabytes: u32) -> Result<Self, GroundError> {
        let size = format!("size={megabytes}m");
        as_root(&["mount", "-t", "tmpfs", "-o", &size, "buzzer-prove"], folder).map_err(|reason| {
            GroundError::Missing(format!(
                "a small disk cannot be mounted: {reason}. Run it as root, or let this user run mount and umount with \
                 sudo -n; in a container, start that with the capability SYS_ADMIN"
            ))
        })?;
        let guardian = Guardian::of_mount(folder).map_err(GroundError::io("sh"))?;
        Ok(Self { folder: folder.to_owned(), megabytes, _guardian: guardian })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Whether nothing is on it: whoever was to use it does not.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn is_unused(&self) -> Result<bool, GroundError> {
        let mut entries = std::fs::read_dir(&self.folder).map_err(GroundError::file(&self.folder))?;
        Ok(entries.next().is_none())
    }

    /// Leaves no room on it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn fill(&self) -> Result<(), GroundError> {
        let mut refused = String::new();
        for _ in 0..TRIES {
            let used = used(&self.folder)?;
            match as_root(&["mount", "-o", &format!("remount,size={used}")], &self.folder) {
                Ok(()) => return Ok(()),
                Err(reason) => refused = reason,
            }
        }
        Err(GroundError::said("a disk cannot be filled", &refused))
    }

    /// Ends what [`fill`](Self::fill) began.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn make_room(&self) -> Result<(), GroundError> {
        let size = format!("remount,size={}m", self.megabytes);
        as_root(&["mount", "-o", &size], &self.folder).map_err(|reason| GroundError::said("a full disk", &reason))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever has its files open may end later.
        let _ = as_root(&["umount", "-l"], &self.folder);
    }
}

/// Bytes, in whole blocks.
fn used(folder: &Path) -> Result<u64, GroundError> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| GroundError::file(folder)(error.into()))?;
    Ok((disk.f_blocks - disk.f_bfree) * disk.f_frsize)
}

/// Does to a folder what only root may: as this user, and where that fails, with sudo, if that asks for no password.
///
/// # Errors
/// What both said.
fn as_root(command: &[&str], folder: &Path) -> Result<(), String> {
    let own = done(Command::new(command[0]).args(&command[1..]).arg(folder));
    own.or_else(|own| {
        done(Command::new("sudo").arg("-n").args(command).arg(folder)).map_err(|sudo| format!("{own}; {sudo}"))
    })
}

fn done(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", command.get_program().display())),
    }
}
