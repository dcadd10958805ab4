//! What the keeper is told, by stores and the writer.

use super::Shared;
use crate::keeper::Told;

impl Shared {
    /// Waits up to `wait_ms` until the keeper is told something.
    pub(crate) fn wait_told(&self, wait_ms: u64) {
        let told = Self::lock(&self.told);
        if told.is_empty() {
            let wait = std::time::Duration::from_millis(wait_ms);
            drop(self.told_work.wait_timeout(told, wait).expect("no panic under this lock"));
        }
    }

    pub(crate) fn tell(&self, told: Told) {
        Self::lock(&self.told).push_back(told);
        self.told_work.notify_one();
    }

    /// What the keeper was told since the last call.
    pub(crate) fn take_told(&self) -> Vec<Told> {
        Self::lock(&self.told).drain(..).collect()
    }
}
