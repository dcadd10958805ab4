//! Queues, streams and groups get other settings, are deleted and made anew.

use weir_core::command::{Command, DestinationId};
use weir_core::effect::Effect;
use weir_journal::sim::Seeded;

use super::operations::{Who, stats_of};
use super::places::{Change, KEYED, PARTITIONS, PLACES, Place, STREAM, Settings};
use super::{OWN, Pair, one_of};
use crate::shard::publish;

impl Pair {
    /// Gives something other settings, and sees that a stream keeps no more than those say.
    pub(super) fn alter(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let place = &mut self.places[random.below(PLACES as u64) as usize];
        let Some(change) = place.alter(random) else { return };
        let id = place.id;
        let what = format!("{what}, {} gets {change:?}", place.name);
        let effects = self.both(&what, &|| vec![who.info(id), change.command(id), who.info(id)]);
        let stats = stats_of(&effects);
        let [before, after] = &stats[..] else { panic!("{what}: {} answers", stats.len()) };
        let kind = match &change {
            Change::Queue(_) => "queues altered",
            Change::Group(_) => "groups altered",
            Change::Stream(config) => {
                let (messages, bytes) = (config.messages_max, config.bytes_max);
                let fits = |&kept: &u64| messages == 0 || kept <= messages;
                assert!(after.kept.iter().all(fits), "{what}: {:?} are kept", after.kept);
                let fit = bytes == 0 || after.bytes <= u64::from(PARTITIONS) * bytes;
                assert!(fit, "{what}: {} bytes are kept", after.bytes);
                "streams altered"
            }
        };
        self.count(kind, 1);
        self.count("messages removed by that", before.messages - after.messages);
    }

    pub(super) fn delete(&mut self, who: Who, random: &mut Seeded, what: &str) {
        match random.below(8) {
            0..4 => self.delete_place(who, random, what),
            4..7 => self.delete_group(who, random, what),
            _ => self.delete_dead(who, random, what),
        }
    }

    /// Deletes a queue or a stream. Something may be published to it in the same turn, and
    /// one of its name may be made at once: [`Pair::make_missing`] makes it else.
    fn delete_place(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let at = random.below(PLACES as u64) as usize;
        if !self.places[at].is_there {
            return;
        }
        let (old, receipt) = (self.places[at].clone(), self.requests);
        let last = random.one_in(2).then(|| vec![old.message(receipt, 0, random)]);
        let anew = random.one_in(2).then(|| self.anew(at));
        self.places[at].is_there = anew.is_some();
        let commands = || {
            let mut commands = vec![who.info(old.id)];
            commands.extend(last.iter().map(|last| publish(old.id.0, receipt, last, 0)));
            commands.push(Command::Delete { id: old.id });
            commands.extend(anew.iter().flat_map(Place::make));
            commands
        };
        let effects = self.both(&format!("{what}, {} goes", old.name), &commands);
        // That was told of the old one.
        self.places[at].start = 0;
        if at == KEYED {
            self.keep_compacted();
        }
        let kind = match old.settings {
            Settings::Queue(_) => "queues deleted",
            Settings::Stream(_) => "streams deleted",
        };
        self.note_deleted(kind, &effects, None);
    }

    /// Deletes a group, which may be made anew at once, to read from another place on.
    fn delete_group(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let wall_ms = self.memory.now.wall_ms;
        let place = &mut self.places[*one_of(random, &[STREAM, KEYED])];
        let (start, again) = (place.somewhere(wall_ms, random), random.one_in(2));
        let which = random.below(place.groups.len() as u64) as usize;
        let group = &mut place.groups[which];
        if !place.is_there || !group.is_there {
            return;
        }
        (group.is_there, group.config.start) = (again, start);
        let (id, group) = (place.id, group.clone());
        let what = format!("{what}, {}/{} goes", place.name, group.name);
        let commands = || {
            let delete = Command::DeleteGroup { stream: id, group: group.name.to_owned() };
            let mut commands = vec![who.info(id), delete];
            commands.extend(again.then(|| group.put(id)));
            commands
        };
        let effects = self.both(&what, &commands);
        self.note_deleted("groups deleted", &effects, Some(group.name));
    }

    /// Deletes a dead-letter queue: the next message that needs it has it made anew.
    fn delete_dead(&mut self, who: Who, random: &mut Seeded, what: &str) {
        let Some((name, id)) = self.some_dead(random) else { return };
        let commands = || vec![who.info(id), Command::Delete { id }];
        let effects = self.both(&format!("{what}, {name} goes"), &commands);
        self.dead.remove(&name);
        self.note_deleted("dead-letter queues deleted", &effects, None);
    }

    /// Counts a deletion, and whether consumers held something of what was deleted, by what
    /// was told right before: of all its groups, or of `group`.
    fn note_deleted(&mut self, kind: &'static str, effects: &[Effect], group: Option<&str>) {
        let mut groups = stats_of(effects).into_iter().flat_map(|stats| &stats.groups);
        let is_meant = |name: &str| group.is_none_or(|group| group == name);
        let is_out = groups.any(|one| one.in_flight > 0 && is_meant(&one.name));
        self.count(kind, 1);
        self.count("deletions with deliveries out", u64::from(is_out));
    }

    /// Makes the first that was deleted and was not made anew.
    pub(super) fn make_missing(&mut self, random: &mut Seeded, what: &str) {
        let wall_ms = self.memory.now.wall_ms;
        for at in 0..PLACES {
            if !self.places[at].is_there {
                let anew = self.anew(at);
                self.both(&format!("{what}, {} is back", anew.name), &|| anew.make());
                return;
            }
            let place = &mut self.places[at];
            if let Some(which) = place.groups.iter().position(|group| !group.is_there) {
                let start = place.somewhere(wall_ms, random);
                let group = &mut place.groups[which];
                (group.is_there, group.config.start) = (true, start);
                let (id, group) = (place.id, group.clone());
                let what = format!("{what}, {}/{} is back", place.name, group.name);
                self.both(&what, &|| vec![group.put(id)]);
                return;
            }
        }
    }

    /// What was deleted, with a number that nothing had before.
    fn anew(&mut self, at: usize) -> Place {
        let place = &mut self.places[at];
        (place.id, place.is_there) = (DestinationId(self.numbers), true);
        self.numbers += 1;
        assert!(self.numbers < OWN, "there is no number left");
        place.clone()
    }
}
