//! Room on the disk for what is published, as the keeper saw it last: taken by stores
//! as they go, since it looks less often than a publisher can fill a disk.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::keeper::Told;
use crate::limits;

impl Shared {
    pub(crate) fn has_no_space(&self) -> bool {
        self.no_space.load(Ordering::Relaxed) || self.is_short() || self.spares.is_lacking()
    }

    /// Whether the room that the keeper saw is used up.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of the room there is on the disk. False when it is used up. `held` is
    /// what the store took before and has not used, bytes: stores that took every few
    /// bytes anew would wait for each other.
    pub(crate) fn take_room(&self, held: &mut u64, bytes: u64) -> bool {
        if self.has_no_space() {
            return false;
        }
        if let Some(left) = held.checked_sub(bytes) {
            *held = left;
            return true;
        }
        let (missing, step) =
            (bytes - *held, self.config.journal_file_bytes / limits::ROOM_STEP_SHARE);
        if self.take_of_room(missing.saturating_add(step)) {
            *held = step;
            return true;
        }
        let has_room = self.take_of_room(missing);
        if has_room {
            *held = 0;
        }
        if !has_room && !self.is_short.swap(true, Ordering::Relaxed) {
            self.tell(Told::Short);
        }
        has_room
    }

    fn take_of_room(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let take = |room: i64| if room < bytes { None } else { Some(room - bytes) };
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// The keeper has looked at the disk.
    pub(crate) fn note_room(&self, bytes: u64) {
        // What is handed over and not written lies in files that are there already,
        // or takes of this soon.
        let room = bytes.saturating_sub(self.pending_bytes());
        self.room.store(i64::try_from(room).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.is_short.store(room == 0, Ordering::Relaxed);
    }

    pub(crate) fn set_no_space(&self, on: bool) {
        self.no_space.store(on, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::sim::SimFiles;
    use crate::{Journal, JournalConfig};

    struct Still;

    impl weir_core::env::Clock for Still {
        fn now(&self) -> weir_core::env::Now {
            weir_core::env::Now::default()
        }
    }

    #[test]
    fn room_is_taken_ahead_while_there_is_much_and_to_the_byte_where_there_is_little() {
        let mut config = JournalConfig::new(7);
        (config.free_bytes_min, config.free_percent_min) = (0, 0);
        let step = config.journal_file_bytes / limits::ROOM_STEP_SHARE;
        let files = Arc::new(SimFiles::new(1));
        let journal = Journal::open_stepped(files, Arc::new(Still), config, 2).unwrap();
        let shared = &journal.shared;
        let room = || u64::try_from(shared.room.load(Ordering::Relaxed)).unwrap();
        let (mut one, mut other) = (0, 0);
        shared.note_room(10 * step);
        assert!(shared.take_room(&mut one, 100) && shared.take_room(&mut one, 100));
        assert_eq!((one, room()), (step - 100, 9 * step - 100), "the second took of the first's");
        assert!(shared.take_room(&mut one, 2 * step));
        assert_eq!((one, room()), (step, 7 * step - 200), "and no more is held");
        shared.note_room(900);
        assert!(shared.take_room(&mut other, 800), "less than a step is left");
        assert_eq!((other, room()), (0, 100));
        assert!(!shared.take_room(&mut other, 101) && shared.is_short());
        assert!(!shared.take_room(&mut one, 1), "nobody goes on where one was refused");
        shared.note_room(900);
        assert!(shared.take_room(&mut one, step) && shared.take_room(&mut other, 900));
    }
}
