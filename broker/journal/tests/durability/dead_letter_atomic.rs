//! S3: a message that a consumer rejects is in the dead-letter queue before it is
//! settled at its source. Whenever the power goes, it is there at least once, and
//! exactly once when those with the same source and offset count as one.

use std::collections::{BTreeMap, BTreeSet};

use weir_core::command::{Level, Verb};
use weir_core::dead_letter;
use weir_core::effect::Effect;
use weir_core::store::StoreError;
use weir_journal::sim::{Seeded, SimFiles};

use crate::proof::Proof;
use crate::shard::{DEAD, Driven, Got, ORDERS, consume, delivered, message, publish, settle};
use crate::world::config;

/// Makes messages long.
const KEY: &str = "key of many";

fn start(files: &SimFiles, eager: bool) -> Driven {
    let mut config = config();
    // Blocks so short that a turn may be cut in two.
    config.journal_file_bytes = 16 << 10;
    let driven = Driven::start(files, config, eager);
    let journal = driven.journal.as_ref().unwrap().lock().unwrap();
    assert!(journal.report().damage.is_empty(), "{}", journal.report().summary());
    drop(journal);
    driven
}

/// Whether a consumer does not want it.
fn is_unwanted(got: &Got) -> bool {
    let number: u64 = got.payload().parse().unwrap();
    number.is_multiple_of(3)
}

#[derive(Default)]
struct Seen {
    published: u64,
    /// By receipt: the numbers of the messages.
    receipts: BTreeMap<u32, Vec<u64>>,
    acknowledged: BTreeSet<u64>,
    /// Deliveries that wait for a word.
    open: Vec<Got>,
}

impl Seen {
    fn take(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Published { receipt, outcome, .. } = effect {
                assert_eq!(*outcome, Ok(Level::Disk));
                self.acknowledged.extend(&self.receipts[&receipt.0]);
            }
        }
        self.open.extend(delivered(effects).remove(&(2, 1)).unwrap_or_default());
    }
}

fn busy(driven: &mut Driven, seen: &mut Seen, random: &mut Seeded) -> Result<(), StoreError> {
    let attached = driven.hasty_turn(vec![consume(2, ORDERS, 30)])?;
    seen.take(&attached);
    for _ in 0..60 {
        let mut commands = Vec::new();
        if random.below(3) > 0 {
            let numbers: Vec<u64> = (0..1 + random.below(5)).map(|k| seen.published + k).collect();
            seen.published += numbers.len() as u64;
            let receipt = seen.receipts.len() as u32;
            let messages: Vec<Vec<u8>> = numbers
                .iter()
                .map(|number| message(&KEY.repeat(90), &number.to_string()))
                .collect();
            commands.push(publish(ORDERS, receipt, &messages, 0));
            seen.receipts.insert(receipt, numbers);
        }
        for _ in 0..random.below(6).min(seen.open.len() as u64) {
            let got = seen.open.swap_remove(random.below(seen.open.len() as u64) as usize);
            let verb = if is_unwanted(&got) { Verb::Reject { code: 7 } } else { Verb::Ack };
            commands.push(settle(2, got.tag, got.tag, verb));
        }
        commands.push(weir_core::command::Command::Credit {
            connection: weir_core::command::ConnectionId(2),
            subscription: weir_core::command::SubscriptionId(1),
            amount: 5,
        });
        driven.now.steady_ms += 1;
        let effects = match random.below(3) {
            0 => driven.turn(commands)?,
            _ => driven.hasty_turn(commands)?,
        };
        seen.take(&effects);
    }
    Ok(())
}

/// Rejects or acks whatever is left.
fn drain(driven: &mut Driven, seen: &mut Seen) {
    seen.open.clear();
    let mut effects = driven.turn(vec![consume(2, ORDERS, 10_000)]).unwrap();
    loop {
        seen.take(&effects);
        if seen.open.is_empty() {
            break;
        }
        let verb = |got: &Got| if is_unwanted(got) { Verb::Reject { code: 7 } } else { Verb::Ack };
        let words = seen.open.iter().map(|got| settle(2, got.tag, got.tag, verb(got))).collect();
        seen.open.clear();
        effects = driven.turn(words).unwrap();
    }
}

#[test]
fn dead_letter_atomic() {
    let (mut proof, seeds) = Proof::of_seeds("dead_letter_atomic", 200, 2_000);
    let (mut cuts, mut twice) = (0, 0);
    for seed in seeds {
        let mut random = Seeded::new(seed);
        let files = SimFiles::new(seed);
        let mut seen = Seen::default();
        for _life in 0..3 {
            let mut driven = start(&files, random.below(2) == 0);
            files.cut_power_at(1 + random.below(120));
            let done = busy(&mut driven, &mut seen, &mut random);
            assert!(done.is_ok() || !files.has_power(), "seed {seed}: {done:?}");
            cuts += u64::from(!files.has_power());
            drop(driven);
            files.crash(random.number());
            seen.open.clear();
        }
        let mut driven = start(&files, false);
        drain(&mut driven, &mut seen);
        drop(driven);
        files.kill();
        let mut driven = start(&files, false);
        let effects = driven.turn(vec![consume(3, DEAD, 60_000)]).unwrap();
        let dead = delivered(&effects).remove(&(3, 1)).unwrap_or_default();
        let mut once: BTreeMap<(String, String), u64> = BTreeMap::new();
        for got in &dead {
            assert!(is_unwanted(got), "seed {seed}: {} was never rejected", got.payload());
            let key = |name| got.header(name).unwrap_or_else(|| panic!("seed {seed}: no {name}"));
            let key = (key(dead_letter::SOURCE), key(dead_letter::OFFSET));
            let number: u64 = got.payload().parse().unwrap();
            let known = *once.entry(key.clone()).or_insert(number);
            assert_eq!(known, number, "seed {seed}: two messages say {key:?}");
        }
        twice += dead.len() - once.len();
        let numbers: BTreeSet<u64> = once.values().copied().collect();
        assert_eq!(numbers.len(), once.len(), "seed {seed}: one message under two offsets");
        for number in seen.acknowledged.iter().filter(|number| number.is_multiple_of(3)) {
            assert!(numbers.contains(number), "seed {seed}: {number} is in neither queue");
        }
        // And the others were not moved there or kept.
        let left = driven.turn(vec![consume(4, ORDERS, 60_000)]).unwrap();
        assert!(delivered(&left).is_empty(), "seed {seed}: settled, and delivered again");
    }
    proof.figure(format!("{cuts} power cuts, {twice} copies told by their headers, 0 lost"));
    assert!(cuts > 0);
}
