//! What a power cut leaves: any subset of what was not synced.

use std::sync::Arc;

use super::Seeded;
use super::contents::{Contents, PAGE_BYTES, Page, sectors_of};
use super::node::Node;
use super::state::State;
use super::tree::drop_orphans;
use crate::limits::SECTOR_BYTES;

/// How kind a power cut is. Drawn once per crash, so that the extremes, all or
/// nothing, come often and not only when many coins agree.
#[derive(Clone, Copy)]
enum Mood {
    NothingSurvives,
    AllSurvives,
    /// One in two, and no garbage.
    Half,
    /// Each fate is as likely.
    Any,
}

#[derive(Clone, Copy)]
enum Fate {
    Old,
    New,
    Zero,
    Garbage,
}

impl Mood {
    fn draw(random: &mut Seeded) -> Self {
        match random.below(6) {
            0 => Self::NothingSurvives,
            1 => Self::AllSurvives,
            2 => Self::Half,
            _ => Self::Any,
        }
    }

    fn survives(self, random: &mut Seeded) -> bool {
        match self {
            Self::NothingSurvives => false,
            Self::AllSurvives => true,
            Self::Half | Self::Any => random.one_in(2),
        }
    }

    fn fate(self, random: &mut Seeded) -> Fate {
        match self {
            Self::Any => match random.below(4) {
                0 => Fate::Old,
                1 => Fate::New,
                2 => Fate::Zero,
                _ => Fate::Garbage,
            },
            _ if self.survives(random) => Fate::New,
            _ => Fate::Old,
        }
    }
}

impl State {
    /// Cuts the power and turns it on again.
    pub(super) fn crash(&mut self, seed: u64) {
        let mut random = Seeded::new(seed);
        let mood = Mood::draw(&mut random);
        for op in std::mem::take(&mut self.pending) {
            if mood.survives(&mut random) {
                op.apply(&mut self.durable);
            }
        }
        drop_orphans(&mut self.durable);
        self.now = self.durable.clone();
        let mood = Mood::draw(&mut random);
        let stale = self.stale_sectors();
        let mut numbers: Vec<_> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let node = self.nodes.get_mut(&number).expect("its number was just read");
            node.crash(mood, &stale, &mut random);
        }
        self.end_process();
        self.faults = super::fault::Faults::default();
        self.power_ends_at = None;
        self.has_power = true;
    }

    /// Some pages that are on disk: what a new file may find in its place when
    /// its own bytes did not arrive.
    fn stale_sectors(&self) -> Vec<Arc<Page>> {
        let mut numbers: Vec<_> = self.nodes.keys().collect();
        numbers.sort_unstable();
        let pages = numbers.into_iter().flat_map(|number| {
            let durable = &self.nodes[number].durable;
            let last = durable.page_numbers().into_iter().rev().take(4);
            last.filter_map(|page| durable.page(page).cloned()).collect::<Vec<_>>()
        });
        pages.take(64).collect()
    }
}

impl Node {
    fn crash(&mut self, mood: Mood, stale: &[Arc<Page>], random: &mut Seeded) {
        let (old, new) = (self.durable.len(), self.current.len());
        let len = match mood {
            Mood::NothingSurvives => old,
            Mood::AllSurvives => new,
            Mood::Any if new > old && random.one_in(3) => old + random.below(new - old + 1),
            Mood::Half | Mood::Any => {
                if random.one_in(2) {
                    old
                } else {
                    new
                }
            }
        };
        let mut kept = self.durable.clone();
        kept.set_len(len.max(old));
        for (page, mask) in std::mem::take(&mut self.dirty) {
            for sector in sectors_of(page, mask) {
                if sector * SECTOR_BYTES as u64 >= len {
                    continue;
                }
                let is_synced = sector * (SECTOR_BYTES as u64) < old;
                let one = 1 << (sector % 8);
                match mood.fate(random) {
                    Fate::Old => {}
                    Fate::New => kept.set_sectors(page, one, self.current.page(page)),
                    // A sector that holds something is written whole or not at all.
                    Fate::Zero | Fate::Garbage if is_synced => {}
                    Fate::Zero => kept.set_sectors(page, one, None),
                    Fate::Garbage => garbage(&mut kept, sector, stale, random),
                }
            }
        }
        kept.set_len(len);
        kept.clear_tail();
        self.durable = kept.clone();
        self.current = kept;
        self.errors = 0;
    }
}

/// Puts something into a sector that was never written: random bytes, or what
/// another file left there.
fn garbage(kept: &mut Contents, sector: u64, stale: &[Arc<Page>], random: &mut Seeded) {
    let mut page = [0; PAGE_BYTES];
    if !stale.is_empty() && random.one_in(3) {
        page = *stale[random.below(stale.len() as u64) as usize];
    } else {
        random.fill(&mut page);
    }
    kept.set_sectors(sector / 8, 1 << (sector % 8), Some(&Arc::new(page)));
}
