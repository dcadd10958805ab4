//! Disks that fail on demand: ext4 on a loop device that loses its power, ext4 over
//! room that is not there, and a small disk in memory that fills up. All need root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::proof::scratch;

/// Shuts a file system down without writing its log: `FS_IOC_SHUTDOWN` with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`. What was not synced never reaches the device.
const SHUT_DOWN: &str = r#"open(F, "<", $ARGV[0]) or die "open: $!";
my $flags = pack("L", 2);
ioctl(F, 0x8004587d, $flags) or die "ioctl: $!";"#;
/// Attempts to unmount: a process that was just killed may still hold a file.
const UNMOUNT_ATTEMPTS: u32 = 50;

/// A mounted disk; unmounted and removed at the end.
pub(crate) struct Disk {
    mount: PathBuf,
    /// The file that a loop device shows as a disk.
    image: Option<PathBuf>,
    /// A disk in memory below the image.
    below: Option<PathBuf>,
}

impl Disk {
    /// An ext4 file system of so many megabytes that can lose its power.
    pub(crate) fn ext4(name: &str, mib: u32) -> Result<Self, String> {
        let folder = fresh(name)?;
        Self::on_image(&folder, folder.join("image"), mib, None)
    }

    /// An ext4 file system of `mib` megabytes that has only `real_mib` of them.
    pub(crate) fn thin(name: &str, mib: u32, real_mib: u32) -> Result<Self, String> {
        let folder = fresh(name)?;
        let below = folder.join("below");
        mount_memory(&below, real_mib)?;
        let made = Self::on_image(&folder, below.join("image"), mib, Some(below.clone()));
        if made.is_err() {
            let _ = unmount(&below);
        }
        made
    }

    /// A disk of so many megabytes, in memory.
    pub(crate) fn memory(name: &str, mib: u32) -> Result<Self, String> {
        let mount = fresh(name)?.join("disk");
        mount_memory(&mount, mib)?;
        Ok(Self { mount, image: None, below: None })
    }

    fn on_image(
        folder: &Path,
        image: PathBuf,
        mib: u32,
        below: Option<PathBuf>,
    ) -> Result<Self, String> {
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(u64::from(mib) << 20).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        let mount = folder.join("disk");
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let disk = Self { mount, image: Some(image), below };
        disk.mount_image()?;
        Ok(disk)
    }

    /// The log of the file system is written when somebody syncs, and else after
    /// five minutes: nothing becomes durable by chance.
    fn mount_image(&self) -> Result<(), String> {
        let image = text(self.image.as_ref().expect("it has an image"));
        run("mount", &["-t", "ext4", "-o", "loop,commit=300", &image, &text(&self.mount)])
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: from now on every write fails, and what was not synced is
    /// gone.
    pub(crate) fn cut(&self) {
        run("perl", &["-e", SHUT_DOWN, &text(&self.mount)]).expect("the power can be cut");
    }

    /// Takes it off and mounts it again, as a machine that starts anew does. Nobody
    /// may use it.
    pub(crate) fn mount_again(&self) {
        unmount(&self.mount).expect("nobody uses it");
        self.mount_image().expect("it can be mounted again");
    }

    /// Gives a thin disk the room it claims to have.
    pub(crate) fn thicken(&self, real_mib: u32) {
        let below = text(self.below.as_ref().expect("it is thin"));
        let size = format!("remount,size={real_mib}m");
        run("mount", &["-o", &size, &below]).expect("a disk in memory can grow");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.mount);
        if let Some(below) = &self.below {
            let _ = unmount(below);
        }
        if let Some(image) = &self.image {
            let _ = std::fs::remove_file(image);
        }
    }
}

/// An empty folder for the disk of a test; what an ended run left is taken off.
fn fresh(name: &str) -> Result<PathBuf, String> {
    let folder = scratch(name);
    for left in ["disk", "below"] {
        let left = folder.join(left);
        if left.is_dir() {
            let _ = run("umount", &[&text(&left)]);
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn mount_memory(at: &Path, mib: u32) -> Result<(), String> {
    std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
    let size = format!("size={mib}m");
    run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &text(at)])
}

fn unmount(at: &Path) -> Result<(), String> {
    let mut said = Ok(());
    for _ in 0..UNMOUNT_ATTEMPTS {
        said = run("umount", &[&text(at)]);
        match &said {
            Err(why) if why.contains("busy") => {
                crate::load::pause(std::time::Duration::from_millis(20));
            }
            _ => break,
        }
    }
    said
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths here are text").to_owned()
}

/// Runs a program of the system; what it said when it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or("it failed").trim()))
}
