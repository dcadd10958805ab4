//! D5: a bit that turns in what was synced is never silent. Every record reads as
//! before, or its read says that it is damaged and the range is named; what lies
//! beside it is readable; nothing is cut.

use std::collections::BTreeMap;

use weir_core::store::Store;
use weir_journal::format::{Entry, EntryKind, Kind};

use crate::anatomy::{Anatomy, Part};
use crate::proof::Proof;
use crate::world::{Held, World};

/// One case: the part that is hit, and what the log says of it.
struct Hit<'a> {
    what: String,
    part: &'a Part,
    /// Which byte of the part.
    at: usize,
    anatomy: &'a Anatomy,
    /// Files there are after a start when nothing is hit.
    kept: &'a [String],
}

impl Hit<'_> {
    /// Whether it may cost this record: one of its block, or of its entry where the body
    /// of one is hit.
    fn may_cost(&self, name: &str, offset: u64) -> bool {
        let is_hit =
            |entry: &&Entry| entry.kind == EntryKind::Append && entry.body.contains(&self.at);
        let entry = self.part.entries.iter().find(is_hit);
        self.part.appends().iter().any(|&(log, from, to)| {
            self.anatomy.names.get(&log).is_some_and(|known| known == name)
                && entry.is_none_or(|entry| (entry.log, entry.a) == (log, from))
                && (from..to).contains(&offset)
        })
    }
}

#[test]
fn bitrot_below_mark() {
    let images = 8;
    let (mut proof, each) = Proof::of_cases("bitrot_below_mark", 400, 2_000, images);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=images {
        let base = World::aged(seed);
        let anatomy = Anatomy::of(&base.files);
        let parts = anatomy.below_mark();
        let kinds = [Kind::Journal, Kind::Segment, Kind::Checkpoint];
        for kind in kinds {
            assert!(parts.iter().any(|part| part.kind == kind), "seed {seed}: no {kind:?}");
        }
        assert!(!anatomy.footers().is_empty(), "seed {seed}: no sealed segment");
        let mut sound = base.fork();
        sound.start();
        assert!(sound.journal().report().damage.is_empty());
        let truth = sound.held();
        let kept = sound.files.paths();
        for case in 0..each {
            let mut world = base.fork();
            world.random = weir_journal::sim::Seeded::new(seed << 32 | case);
            // Journal, segments and checkpoints alike; headers and tables as often
            // as bodies.
            let kind = kinds[world.below(3) as usize];
            let of_kind: Vec<&Part> = parts.iter().filter(|part| part.kind == kind).collect();
            let part = of_kind[world.below(of_kind.len() as u64) as usize];
            let head = 64 + 56 * part.entries.len().max(1);
            let len = if world.below(2) == 0 { head } else { part.to - part.from };
            let byte = part.from as u64 + world.below(len.min(part.to - part.from) as u64);
            let bit = world.below(8) as u8;
            let what = format!("seed {seed} case {case}: {} byte {byte} bit {bit}", part.path);
            world.files.flip_bit(&part.path, byte, bit);
            let at = byte as usize - part.from;
            let hit = Hit { what, part, at, anatomy: &anatomy, kept: &kept };
            let outcome = check(&mut world, &truth, &hit);
            *tally.entry(outcome).or_default() += 1;
        }
    }
    proof.figure(format!("{tally:?}, each loss named: 0 silent"));
    assert!(tally.get("lost").is_some_and(|&lost| lost > 0), "no case cost anything");
}

fn check(world: &mut World, truth: &Held, hit: &Hit<'_>) -> &'static str {
    let what = &hit.what;
    let before = world.files.fork();
    if let Err(error) = world.try_start() {
        panic!("{what}: no start: {error}");
    }
    let report = world.journal().report().clone();
    let held = world.held();
    let mut outcome = if report.damage.is_empty() { "as before" } else { "told" };
    for (name, was) in &truth.logs {
        let nothing = Default::default();
        let now = held.logs.get(name).unwrap_or_else(|| {
            let is_told = !report.damage.is_empty();
            let number = hit.anatomy.names.iter().find(|(_, known)| *known == name).unwrap().0;
            assert!(is_told && hit.part.opens(*number), "{what}: {name} is gone");
            let found = held.logs.get(&format!("lost+found/{number}"));
            found.unwrap_or(&nothing)
        });
        for (offset, payload) in &was.records {
            match now.records.get(offset) {
                Some(found) => assert!(found == payload, "{what}: {name}@{offset}: other bytes"),
                None => {
                    outcome = "lost";
                    assert!(hit.may_cost(name, *offset), "{what}: {name}@{offset} is lost");
                    let is_told =
                        now.damaged.iter().any(|(from, to)| (*from..*to).contains(offset));
                    // Of a log whose last records are lost it is known that there
                    // were some, not how many.
                    let is_end = *offset >= now.bounds.end && now.damaged.last().is_some();
                    assert!(
                        is_told || is_end,
                        "{what}: {name}@{offset} is lost silently: {report:?}"
                    );
                }
            }
        }
        for (offset, payload) in &now.records {
            if !was.records.contains_key(offset) {
                let is_told = hit.part.has_changes() && !report.damage.is_empty();
                assert!(is_told, "{what}: {name}@{offset} is back");
                let known = &world.logs[name].records[offset].payload;
                assert!(known == payload, "{what}: {name}@{offset} is back with other bytes");
                outcome = "back, told";
            }
        }
        let is_closed = !now.damaged.is_empty() || {
            let log = world.log(name);
            world.store().damage(log).is_some()
        };
        let end = now.bounds.end;
        let is_told = is_closed || report.damage.iter().any(|damage| damage.lost.is_empty());
        assert!(end >= was.bounds.end || is_told, "{what}: {name} ends at {end}");
        if end < was.bounds.end {
            assert!(is_closed, "{what}: {name} would give offsets again: {report:?}");
        }
    }
    for (name, now) in held.logs.iter().filter(|(name, _)| !truth.logs.contains_key(*name)) {
        let is_told = !report.damage.is_empty() && hit.part.has_changes();
        assert!(is_told, "{what}: {name} ({} records) is made up", now.records.len());
    }
    if held.keys != truth.keys {
        let is_told = !report.damage.is_empty() && hit.part.has_changes();
        assert!(is_told, "{what}: the catalogue has changed silently");
    }
    nothing_is_cut(world, &before, hit);
    outcome
}

/// What was there below the mark is there as it was.
fn nothing_is_cut(world: &World, before: &weir_journal::sim::SimFiles, hit: &Hit<'_>) {
    let what = &hit.what;
    let first = format!("journal/j-{:016x}.wj", Anatomy::of(before).first_needed());
    for part in hit.anatomy.below_mark() {
        let is_free = part.kind == Kind::Journal && part.path < first;
        // Another checkpoint stands in for a damaged one: it knows other segments.
        let is_other = part.kind == Kind::Segment && hit.part.kind == Kind::Checkpoint;
        // Emptied by what is in the journal: nothing needs it.
        let is_empty = part.kind == Kind::Segment && !hit.kept.contains(&part.path);
        if is_free || is_other || is_empty {
            continue;
        }
        let old = before.bytes(&part.path).unwrap();
        let new = world.files.bytes(&part.path);
        let new = new.unwrap_or_else(|| panic!("{what}: {} is gone", part.path));
        let as_it_was = new.get(part.from..part.to) == Some(&old[part.from..part.to]);
        assert!(as_it_was, "{what}: {} {}..{} has changed", part.path, part.from, part.to);
    }
}
