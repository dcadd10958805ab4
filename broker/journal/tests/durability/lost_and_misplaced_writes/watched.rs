//! A disk that remembers what was written to it, and on which one write goes wrong.

use super::*;

/// The write that is to go wrong.
pub(super) struct Armed {
    pub(super) target: Target,
    /// Only writes that begin like this count.
    pub(super) begins: &'static [u8],
    /// Which of them; 1 is the next.
    pub(super) nth: u64,
    pub(super) wrong: Wrong,
}

/// What was written, and what goes wrong.
pub(super) struct Watch {
    /// Blocks of the journal, by number.
    pub(super) blocks: BTreeMap<u64, Written>,
    pub(super) armed: Option<Armed>,
    pub(super) random: Seeded,
    /// What has gone wrong, in words.
    pub(super) hit: Option<String>,
}

impl Watch {
    /// Takes note of blocks of the journal; a start writes several at once.
    pub(super) fn note(&mut self, bytes: &[u8], position: u64) {
        let mut at = 0;
        while bytes[at..].starts_with(b"WBLK") {
            let sequence = u64::from_le_bytes(bytes[at + 40..at + 48].try_into().unwrap());
            let Found::Block(block) = read_block(bytes, at, identity(sequence)) else { return };
            let end = bytes.len().min(at + block.len);
            let written = Written {
                sequence,
                at: position as usize + at,
                bytes: bytes[at..end].to_vec(),
                entries: block.entries,
            };
            self.blocks.insert(block.head.number, written);
            at = end;
        }
    }

    /// Counts a write. What becomes of it, when it is the one.
    pub(super) fn meet(&mut self, path: &str, bytes: &[u8]) -> Option<Armed> {
        self.armed.take_if(|armed| {
            let counts = path.starts_with(armed.target.under()) && bytes.starts_with(armed.begins);
            armed.nth -= u64::from(counts);
            armed.nth == 0
        })
    }

    /// Another place in a file of `len` bytes than `position`: rather where a block begins.
    pub(super) fn place(&mut self, armed: &Armed, position: u64, len: u64) -> u64 {
        let (own, sectors) = (position / SECTOR, len / SECTOR);
        let sequence = self.blocks.values().next_back().map_or(0, |last| last.sequence);
        let of_file = self.blocks.values().filter(|block| block.sequence == sequence);
        let starts = of_file.map(|block| block.at as u64).filter(|&at| at != position);
        let starts: Vec<u64> = starts.collect();
        let is_block = armed.target == Target::Journal && armed.begins == b"WBLK";
        match self.random.below(4) {
            0 | 1 if is_block && !starts.is_empty() => {
                starts[self.random.below(starts.len() as u64) as usize]
            }
            2 if own > 0 => self.random.below(own) * SECTOR,
            _ => (own + 1 + self.random.below(sectors - 1)) % sectors * SECTOR,
        }
    }
}

/// A disk on which one write goes wrong.
pub(super) struct Watched {
    pub(super) files: SimFiles,
    pub(super) watch: Arc<Mutex<Watch>>,
}

pub(super) struct WatchedFile {
    pub(super) files: SimFiles,
    pub(super) watch: Arc<Mutex<Watch>>,
    pub(super) path: String,
    pub(super) file: Arc<dyn File>,
}

impl Watched {
    pub(super) fn new(files: SimFiles, seed: u64) -> Self {
        let random = Seeded::new(seed);
        let watch = Watch { blocks: BTreeMap::new(), armed: None, random, hit: None };
        Self { files, watch: Arc::new(Mutex::new(watch)) }
    }

    pub(super) fn watched(&self, path: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        let (files, watch, path) = (self.files.clone(), self.watch.clone(), path.to_owned());
        Arc::new(WatchedFile { files, watch, path, file })
    }

    pub(super) fn blocks(&self) -> BTreeMap<u64, Written> {
        self.watch.lock().unwrap().blocks.clone()
    }

    pub(super) fn hit(&self) -> Option<String> {
        self.watch.lock().unwrap().hit.clone()
    }
}

impl WatchedFile {
    /// To be called before anything is written.
    pub(super) fn meet(&self, bytes: &[u8], position: u64) {
        let mut watch = self.watch.lock().unwrap();
        watch.note(bytes, position);
        let Some(armed) = watch.meet(&self.path, bytes) else { return };
        let how = match armed.wrong {
            Wrong::Lost => {
                self.files.lose_write(1);
                "lost".to_owned()
            }
            Wrong::Misplaced => {
                let len = self.file.len().unwrap().max(position + bytes.len() as u64);
                let to = watch.place(&armed, position, len);
                self.files.misplace_write(1, to as i64 - position as i64);
                format!("come to byte {to}")
            }
            Wrong::Elsewhere => {
                let place = self.land_elsewhere(bytes, &mut watch.random);
                self.files.lose_write(1);
                format!("come to {place}")
            }
        };
        let block = watch.blocks.last_key_value().map_or(0, |(number, _)| *number);
        let what = format!("{} bytes for byte {position} of {}", bytes.len(), self.path);
        watch.hit = Some(format!("{what} {how}; block {block} was the last of the journal"));
    }

    /// Puts the bytes, as many as there is room for, into another file, on the disk and not
    /// in the cache. Tells where.
    pub(super) fn land_elsewhere(&self, bytes: &[u8], random: &mut Seeded) -> String {
        for _ in 0..100 {
            let under = ["journal/j-", "logs/", "checkpoint-", "synced"];
            let under = under[random.below(under.len() as u64) as usize];
            let mut paths = self.files.paths();
            paths.retain(|path| path.starts_with(under));
            if paths.is_empty() {
                continue;
            }
            let path = &paths[random.below(paths.len() as u64) as usize];
            let seen = self.files.bytes(path).unwrap();
            if seen.len() < SECTOR_BYTES {
                continue;
            }
            let at = (random.below(seen.len() as u64 / SECTOR) * SECTOR) as usize;
            let to = seen.len().min(at + bytes.len());
            // What is on its way there would come to the disk later, over it.
            let on_disk = self.files.durable_bytes(path).unwrap();
            if on_disk.get(at..to) != Some(&seen[at..to]) {
                continue;
            }
            self.files.damage(path, &bytes[..to - at], at as u64);
            self.files.lose_write(1);
            let file = self.files.open(path).unwrap();
            file.write_at(&seen[at..to], at as u64).unwrap();
            return format!("byte {at} of {path}");
        }
        "nowhere".to_owned()
    }
}

impl Files for Watched {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.watched(path, self.files.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.watched(path, self.files.open(path)?))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<FileEntry>> {
        self.files.list(folder)
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        self.files.make_folder(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.files.remove_folder(folder)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.files.sync_folder(folder)
    }

    fn free(&self) -> io::Result<Space> {
        self.files.free()
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        self.files.lock()
    }
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.meet(bytes, position);
        self.file.write_at(bytes, position)
    }

    fn write_synced(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.meet(bytes, position);
        self.file.write_synced(bytes, position)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.file.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
