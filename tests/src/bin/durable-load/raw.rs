//! What disk and loopback do by themselves, one thing at a time.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::SIDE;

/// Bytes of the file that is written to and synced.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes of one write: the least that the broker writes.
const SECTOR_BYTES: u64 = 512;

/// Syncs a second: one write of 512 bytes into a file full of zeros, one fdatasync.
pub(crate) fn syncs(folder: &Path) -> f64 {
    let path = folder.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0).unwrap();
    file.sync_all().unwrap();
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < SIDE {
        let at = count * SECTOR_BYTES % FILE_BYTES;
        file.write_all_at(&[7; SECTOR_BYTES as usize], at).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

/// Round trips a second over the loopback, one at a time, 200 bytes there and 50
/// back, between two plain threads.
pub(crate) fn round_trips() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 200];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer[..50]).unwrap();
        }
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (started, mut count, mut buffer) = (Instant::now(), 0_u64, [0; 50]);
    while started.elapsed() < Duration::from_secs(1) {
        stream.write_all(&[1; 200]).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        count += 1;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    drop(stream);
    echo.join().unwrap();
    rate
}
