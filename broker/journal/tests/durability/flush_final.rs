//! What a consumer has settled without asking, and then flushed, never comes again once
//! the flush is answered, whenever the power goes.

use std::collections::{BTreeMap, BTreeSet};

use weir_core::command::Verb;
use weir_core::effect::{Effect, Reply};
use weir_core::store::StoreError;
use weir_journal::sim::{Seeded, SimFiles};

use crate::shard::{Driven, Got, ORDERS, consume, delivered, flush, message, publish, settle};
use crate::world::{config, seeds};

fn start(files: &SimFiles, eager: bool) -> Driven {
    Driven::start(files, config(), eager)
}

#[derive(Default)]
struct Seen {
    published: u64,
    /// Deliveries that wait for a word.
    open: Vec<Got>,
    /// Payloads settled and not yet flushed.
    settled: Vec<String>,
    /// By request: what its flush is to answer for.
    asked: BTreeMap<u32, Vec<String>>,
    requests: u32,
    flushed: BTreeSet<String>,
    /// Messages of the flushes that were answered.
    done: u64,
}

impl Seen {
    fn take(&mut self, effects: &[Effect], seed: u64) {
        for effect in effects {
            let Effect::Reply { request, reply: Reply::Count { done, unknown }, .. } = effect
            else {
                continue;
            };
            let flushed = self.asked.remove(&request.0).unwrap();
            let expected = (flushed.len() as u64, 0);
            assert_eq!((*done, *unknown), expected, "seed {seed}: of flush {}", request.0);
            self.done += done;
            self.flushed.extend(flushed);
        }
        let got = delivered(effects).remove(&(2, 1)).unwrap_or_default();
        for payload in got.iter().map(Got::payload) {
            assert!(!self.flushed.contains(&payload), "seed {seed}: {payload} comes again");
        }
        self.open.extend(got);
    }

    fn flush(&mut self) -> weir_core::command::Command {
        self.requests += 1;
        self.asked.insert(self.requests, std::mem::take(&mut self.settled));
        flush(2, self.requests)
    }
}

fn busy(
    driven: &mut Driven,
    seen: &mut Seen,
    random: &mut Seeded,
    seed: u64,
) -> Result<(), StoreError> {
    let attached = driven.hasty_turn(vec![consume(2, ORDERS, 1_000)])?;
    seen.take(&attached, seed);
    for _ in 0..40 {
        let mut commands = Vec::new();
        if random.below(3) > 0 {
            let numbers = seen.published..seen.published + 1 + random.below(5);
            seen.published = numbers.end;
            let messages: Vec<_> = numbers.map(|one| message("", &one.to_string())).collect();
            commands.push(publish(ORDERS, 0, &messages, 0));
        }
        for _ in 0..random.below(6).min(seen.open.len() as u64) {
            let got = seen.open.swap_remove(random.below(seen.open.len() as u64) as usize);
            let rejected = random.below(5) == 0;
            let verb = if rejected { Verb::Reject { code: 7 } } else { Verb::Ack };
            commands.push(settle(2, got.tag, got.tag, verb));
            seen.settled.push(got.payload());
        }
        if random.below(4) == 0 {
            commands.push(seen.flush());
        }
        driven.now.steady_ms += 1;
        let effects = match random.below(3) {
            0 => driven.turn(commands)?,
            _ => driven.hasty_turn(commands)?,
        };
        seen.take(&effects, seed);
    }
    Ok(())
}

/// With nobody else about, a flush waits for no sync of theirs: whether it comes with what
/// it asks for, or behind it.
fn answers_alone(
    driven: &mut Driven,
    seen: &mut Seen,
    random: &mut Seeded,
    seed: u64,
) -> Result<(), StoreError> {
    while !seen.open.is_empty() {
        let mut commands = Vec::new();
        for got in seen.open.drain(..1 + random.below(seen.open.len() as u64) as usize) {
            commands.push(settle(2, got.tag, got.tag, Verb::Ack));
            seen.settled.push(got.payload());
        }
        if random.below(2) == 0 {
            seen.take(&driven.turn(std::mem::take(&mut commands))?, seed);
        }
        commands.push(seen.flush());
        seen.take(&driven.turn(commands)?, seed);
        assert!(seen.asked.is_empty(), "seed {seed}: a flush is not answered");
    }
    Ok(())
}

#[test]
fn flush_final() {
    let (mut cuts, mut done) = (0, 0);
    for seed in seeds(200, 2_000) {
        let mut random = Seeded::new(seed);
        let files = SimFiles::new(seed);
        let mut seen = Seen::default();
        for _life in 0..3 {
            let mut driven = start(&files, random.below(2) == 0);
            files.cut_power_at(1 + random.below(120));
            let ended = busy(&mut driven, &mut seen, &mut random, seed);
            assert!(ended.is_ok() || !files.has_power(), "seed {seed}: {ended:?}");
            cuts += u64::from(!files.has_power());
            drop(driven);
            files.crash(random.number());
            // What nobody was told of may come again, or not.
            seen = Seen { open: Vec::new(), settled: Vec::new(), asked: BTreeMap::new(), ..seen };
        }
        let mut driven = start(&files, false);
        let left = driven.turn(vec![consume(2, ORDERS, 60_000)]).unwrap();
        seen.take(&left, seed);
        assert!(answers_alone(&mut driven, &mut seen, &mut random, seed).is_ok());
        done += seen.done;
    }
    println!("flush_final: {cuts} power cuts, {done} settlements flushed");
    assert!(cuts > 0 && done > 0);
}
