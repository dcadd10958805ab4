//! What recovery found, for the log, `weir doctor` and tests.

use serde::{Deserialize, Serialize};

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Whether the last stop was a clean one.
    pub clean: bool,
    /// Number of the checkpoint it started from, 0 for none.
    pub checkpoint: u64,
    /// Why an older checkpoint had to do.
    pub checkpoint_fallback: Option<String>,
    /// Journal files read.
    pub journal_files: u64,
    /// Blocks replayed.
    pub blocks: u64,
    /// Records found in them.
    pub records: u64,
    /// Logs there are.
    pub logs: u64,
    /// An end that was never acknowledged and was cut off.
    pub torn: Option<Torn>,
    /// What was synced and cannot be read.
    pub damage: Vec<Damage>,
    /// Heads of files, and footers of segments, that are damaged, a sentence each that begins
    /// with the file. Nothing is lost by it: what they say is known from elsewhere.
    #[serde(default)]
    pub heads: Vec<String>,
    /// Records that were lost with the end of a log, were given up, and are back: the log
    /// has gone on without them, so they are not read.
    #[serde(default)]
    pub set_aside: Vec<LostRange>,
    /// How long it took, ms.
    pub took_ms: u64,
}

/// A torn end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    /// The file.
    pub file: String,
    /// Its number.
    pub sequence: u64,
    /// Where it begins, bytes.
    pub at: u64,
    /// How much was there, bytes.
    pub bytes: u64,
    /// Number of the first block cut off.
    pub block: u64,
    /// Whether something of a block was there; else it may be only what the file
    /// held before it was used again.
    pub is_certain: bool,
}

/// Bytes that were synced and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// First byte.
    pub from: u64,
    /// One past the last.
    pub to: u64,
    /// Number of the first block concerned, 0 in a segment or where only a checkpoint knows
    /// of the loss: then it is the `file`.
    pub first_block: u64,
    /// Number of the first block behind it that is sound.
    pub next_block: u64,
    /// What is wrong, in words.
    pub what: String,
    /// Records that are lost by it. Empty: no record is known to be, but changes
    /// to what was settled or to the catalogue may be.
    pub lost: Vec<LostRange>,
}

/// Records that are lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// The log.
    pub log: String,
    /// First offset.
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

impl RecoveryReport {
    /// Notes what is lost by damage number `damage`.
    pub(super) fn lose(&mut self, damage: usize, lost: LostRange) {
        if let Some(damage) = self.damage.get_mut(damage) {
            damage.lost.push(lost);
        }
    }

    /// Every stretch of records that is lost.
    pub fn lost(&self) -> impl Iterator<Item = &LostRange> {
        self.damage.iter().flat_map(|damage| &damage.lost)
    }

    /// The end that was cut off, unless it is what a file held before it was used again: a
    /// broker that stopped in good order has left no other.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Torn> {
        self.torn.as_ref().filter(|torn| torn.is_certain || !self.clean)
    }

    /// One sentence about the damage.
    #[must_use]
    pub fn summary(&self) -> String {
        let places: Vec<String> = self
            .damage
            .iter()
            .map(|damage| {
                let lost: Vec<String> = damage
                    .lost
                    .iter()
                    .map(|lost| format!("{} {}..{}", lost.log, lost.from, lost.to))
                    .collect();
                let lost = if lost.is_empty() { "no record known".into() } else { lost.join(", ") };
                format!(
                    "{} bytes {}..{} ({}): lost {lost}",
                    damage.file, damage.from, damage.to, damage.what
                )
            })
            .collect();
        if places.is_empty() { "no damage".to_owned() } else { places.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_held_before_is_not_told_as_an_unfinished_end() {
        let torn = |is_certain| Torn {
            file: "journal/j".to_owned(),
            sequence: 1,
            at: 4_096,
            bytes: 512,
            block: 7,
            is_certain,
        };
        for (clean, is_certain, is_told) in
            [(true, false, false), (true, true, true), (false, false, true), (false, true, true)]
        {
            let torn = Some(torn(is_certain));
            let report = RecoveryReport { clean, torn, ..RecoveryReport::default() };
            assert_eq!(
                report.unfinished().is_some(),
                is_told,
                "clean {clean} certain {is_certain}"
            );
        }
    }
}
