//! What scripts bind: a policy that does as it is told, a filter that goes by the
//! first letter.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use weir_message::{View, encode};

use super::show::show_event;
use crate::policy::*;

#[derive(Default)]
pub(super) struct Hand {
    pub(super) plan: Option<Plan>,
    pub(super) powers: Powers,
    /// Dispatch what is ready by itself, consumers in turn.
    pub(super) deals: bool,
    /// Show events in the transcript.
    pub(super) shows: bool,
    pub(super) classes: BTreeMap<String, u8>,
    pub(super) wishes: VecDeque<Action>,
    pub(super) failure: Option<Failure>,
    pub(super) turns_away: String,
    pub(super) heard: String,
    pub(super) calls: u64,
}

pub(super) struct TestPolicy {
    name: String,
    number: u64,
    hand: Arc<Mutex<Hand>>,
    /// Consumers with their room and their group, the next to be dealt to in front.
    line: VecDeque<(u32, u32, u32)>,
    state: String,
}

impl TestPolicy {
    pub(super) fn new(name: &str, number: u64, hand: Arc<Mutex<Hand>>) -> Self {
        Self { name: name.to_owned(), number, hand, line: VecDeque::new(), state: String::new() }
    }

    fn fails(&mut self) -> Result<std::sync::MutexGuard<'_, Hand>, Failure> {
        let mut hand = self.hand.lock().unwrap();
        hand.calls += 1;
        match hand.failure.take() {
            Some(failure) => {
                if matches!(failure, Failure::Restarted(_)) {
                    self.line.clear();
                }
                if matches!(failure, Failure::Broken(_)) {
                    hand.failure = Some(failure.clone());
                }
                Err(failure)
            }
            None => Ok(hand),
        }
    }
}

impl DeliveryPolicy for TestPolicy {
    fn generation(&self) -> Generation {
        Generation { number: self.number, digest: "d".into() }
    }

    fn powers(&self) -> Powers {
        self.hand.lock().unwrap().powers
    }

    fn reads_messages(&self) -> bool {
        true
    }

    fn classify(&mut self, _: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut hand = self.fails()?;
        writeln!(hand.heard, "~ classify {subjects:?}").unwrap();
        Ok(subjects.iter().map(|&s| hand.classes.get(s).copied().unwrap_or(2)).collect())
    }

    fn open(&mut self, _: u64, group: &GroupInfo<'_>) -> Result<Plan, Failure> {
        let name = self.name.clone();
        let state = self.state.clone();
        let mut hand = self.fails()?;
        if hand.shows {
            writeln!(hand.heard, "~ {name} opens {}{state}", group.name).unwrap();
        }
        Ok(hand.plan.clone().unwrap())
    }

    fn join(&mut self, _: u64, consumer: &Joining<'_>) -> Result<(), Failure> {
        let hand = self.fails()?;
        if !hand.turns_away.is_empty() && hand.turns_away == consumer.name {
            return Err(Failure::Refused("not you".to_owned()));
        }
        Ok(())
    }

    fn close(&mut self, _: u64, group: u32) {
        let mut hand = self.hand.lock().unwrap();
        if hand.shows {
            writeln!(hand.heard, "~ {} closes {group}", self.name).unwrap();
        }
    }

    fn step(
        &mut self,
        _: u64,
        events: &[Event],
        ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let name = self.name.clone();
        let mut hand = self.fails()?;
        let mut bodies = ready.iter();
        let (deals, shows) = (hand.deals, hand.shows);
        let mut dealt = Vec::new();
        for event in events {
            let body = (event.kind == event::READY).then(|| {
                let body = bodies.next().expect("a body for each ready event");
                String::from_utf8_lossy(View::of(body.bytes).unwrap().payload).into_owned()
            });
            if shows {
                let text = show_event(event, body.as_deref());
                writeln!(hand.heard, "~ {name} hears {text}").unwrap();
            }
            dealt.push(*event);
        }
        actions.extend(hand.wishes.drain(..).map(|wish| match wish.group {
            0 => Action { group: events[0].group, ..wish },
            _ => wish,
        }));
        drop(hand);
        if deals {
            dealt.iter().for_each(|event| self.deal(event, actions));
        }
        Ok(())
    }

    fn save(&mut self, _: u64) -> Option<(u32, Vec<u8>)> {
        Some((1, format!("{}.{}", self.name, self.number).into_bytes()))
    }

    fn load(&mut self, _: u64, _: u32, state: &[u8]) -> Result<(), Failure> {
        self.state = format!(" with state of {}", String::from_utf8_lossy(state));
        Ok(())
    }
}

impl TestPolicy {
    fn deal(&mut self, event: &Event, actions: &mut Vec<Action>) {
        let give_back = |line: &mut VecDeque<(u32, u32, u32)>, by: u32| {
            if let Some(one) = line.iter_mut().find(|one| one.0 == event.consumer) {
                one.1 += by;
            }
        };
        match event.kind {
            event::JOINED => self.line.push_back((event.consumer, event.value, event.group)),
            event::LEFT => self.line.retain(|one| one.0 != event.consumer),
            event::CREDIT => give_back(&mut self.line, event.value),
            event::READY => {
                let is_free = |one: &(u32, u32, u32)| one.1 > 0 && one.2 == event.group;
                let Some(place) = self.line.iter().position(is_free) else { return };
                let mut one = self.line.remove(place).unwrap();
                one.1 -= 1;
                self.line.push_back(one);
                let (group, consumer, message) = (event.group, one.0, event.message);
                let kind = action::DISPATCH;
                actions.push(Action { kind, group, consumer, message, ..Action::default() });
            }
            _ => {}
        }
    }
}

/// Judges by the first letter: x drop, d divert, r rewrite, h hold.
pub(super) struct LetterFilter;

impl DeliveryFilter for LetterFilter {
    fn generation(&self) -> Generation {
        Generation { number: 1, digest: "f".into() }
    }

    fn filter(&mut self, _: u64, messages: &[ReadyMessage<'_>], verdicts: &mut Vec<Verdict>) {
        for message in messages {
            let view = View::of(message.bytes).unwrap();
            verdicts.push(match view.payload[0] {
                b'x' => Verdict::Drop,
                b'd' => Verdict::Divert("letter d".to_owned()),
                b'h' => Verdict::Hold,
                b'r' => {
                    let mut changed = Vec::new();
                    encode(&mut changed, view.subject, view.key, view.headers, b"REWRITTEN");
                    Verdict::Rewrite(changed)
                }
                _ => Verdict::Keep,
            });
        }
    }
}
