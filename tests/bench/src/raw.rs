//! What the machine can do by itself: syncs, writes, the loopback. Taken in the
//! same run as the brokers, in turns with them.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rustix::io::ReadWriteFlags;

/// Bytes of the file that is overwritten.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes written for the rate of plain writes.
const WRITE_BYTES: u64 = 1 << 30;

/// A way to make a write last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the end of a growing file, then `fdatasync`.
    Append,
    /// Over zeros that were written before, then `fdatasync`.
    Overwrite,
    /// Over zeros, in a file opened with `O_DSYNC`.
    Dsync,
    /// Over zeros, each write with `RWF_DSYNC`.
    DsyncWrite,
}

/// Every way, with its name.
pub(crate) const WAYS: [(Way, &str); 4] = [
    (Way::Append, "append + fdatasync"),
    (Way::Overwrite, "overwrite + fdatasync"),
    (Way::Dsync, "overwrite, O_DSYNC"),
    (Way::DsyncWrite, "overwrite, RWF_DSYNC"),
];

fn create(path: &Path, flags: i32) -> Result<File> {
    let mut options = OpenOptions::new();
    Ok(options.create(true).truncate(true).write(true).custom_flags(flags).open(path)?)
}

fn repeated(window: Duration, mut step: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < window {
        step(count)?;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// A file whose writes last, in one of the ways.
struct Lasting {
    file: File,
    way: Way,
    block: Vec<u8>,
}

impl Lasting {
    /// With writes of `bytes`.
    fn make(path: &Path, way: Way, bytes: usize) -> Result<Self> {
        let block = vec![7; bytes];
        if way == Way::Append {
            return Ok(Self { file: create(path, 0)?, way, block });
        }
        let file = create(path, 0)?;
        file.write_all_at(&vec![0; FILE_BYTES as usize], 0)?;
        file.sync_all()?;
        let flags = if way == Way::Dsync { libc::O_DSYNC } else { 0 };
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, way, block })
    }

    /// Makes the write with this number, counted from 0.
    fn write(&self, number: u64) -> Result<()> {
        let at = number * self.block.len() as u64;
        let at = if self.way == Way::Append { at } else { at % FILE_BYTES };
        if self.way == Way::DsyncWrite {
            let (parts, flags) = ([IoSlice::new(&self.block)], ReadWriteFlags::DSYNC);
            let written = rustix::io::pwritev2(&self.file, &parts, at, flags)?;
            ensure!(written == self.block.len(), "a write was cut short");
            return Ok(());
        }
        self.file.write_all_at(&self.block, at)?;
        if self.way != Way::Dsync {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// Writes of `bytes` that were made to last, a second.
pub(crate) fn syncs(folder: &Path, way: Way, bytes: usize, window: Duration) -> Result<f64> {
    let path = folder.join("raw-sync");
    let file = Lasting::make(&path, way, bytes)?;
    let rate = repeated(window, |count| file.write(count))?;
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Bytes a second of a plain sequential write of 1 GiB to a new file.
pub(crate) fn writes(folder: &Path) -> Result<f64> {
    let path = folder.join("raw-write");
    let file = create(&path, 0)?;
    let block = vec![7; 1 << 20];
    let started = Instant::now();
    for at in (0..WRITE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, at)?;
    }
    let rate = WRITE_BYTES as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// Round trips a second over the loopback, one at a time, `bytes` there and 50
/// back, between two plain threads.
pub(crate) fn round_trips(bytes: usize, window: Duration) -> Result<f64> {
    trips(bytes, window, |_| Ok(()))
}

/// As [`round_trips`], where the other side makes a write of 512 bytes last before it
/// answers.
pub(crate) fn synced_trips(folder: &Path, way: Way, bytes: usize, window: Duration) -> Result<f64> {
    let path = folder.join("raw-trips");
    let file = Lasting::make(&path, way, 512)?;
    let rate = trips(bytes, window, move |count| file.write(count))?;
    std::fs::remove_file(path)?;
    Ok(rate)
}

fn trips(
    bytes: usize,
    window: Duration,
    between: impl Fn(u64) -> Result<()> + Send + 'static,
) -> Result<f64> {
    let (mut one, mut other) = pair()?;
    let echo = std::thread::spawn(move || -> Result<()> {
        let mut buffer = vec![0; bytes];
        for count in 0.. {
            if other.read_exact(&mut buffer).is_err() {
                break;
            }
            between(count)?;
            other.write_all(&buffer[..50])?;
        }
        Ok(())
    });
    let (there, mut back) = (vec![1; bytes], [0; 50]);
    let rate = repeated(window, |_| {
        one.write_all(&there)?;
        one.read_exact(&mut back)?;
        Ok(())
    });
    drop(one);
    // What went wrong there is why it did not answer.
    echo.join().map_err(|_| anyhow!("the other side panicked"))??;
    rate
}

/// Bytes a second in one direction over the loopback, in writes of 128 messages of
/// `size` bytes, between two plain threads.
pub(crate) fn one_way(size: usize, window: Duration) -> Result<f64> {
    let (mut one, mut other) = pair()?;
    let sink = std::thread::spawn(move || {
        let (mut buffer, mut read) = (vec![0; 256 * 1024], 0);
        while let Ok(count @ 1..) = other.read(&mut buffer) {
            read += count as u64;
        }
        read
    });
    let block = vec![1; size * 128];
    let started = Instant::now();
    while started.elapsed() < window {
        one.write_all(&block)?;
    }
    drop(one);
    let read = sink.join().unwrap_or(0);
    Ok(read as f64 / started.elapsed().as_secs_f64())
}
