//! The end of a run: all faults gone, one patient consumer everywhere, and then
//! the sums.

use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, Settlement, Source, Start, SubscriptionId, Verb,
};

use crate::model::{Outcome, Rule};
use crate::sessions::Simulation;
use crate::world::{SHARDS, World};

/// The consumer of everything.
const LAST: ConnectionId = ConnectionId(u64::MAX);
/// Rounds after which a run that still moves is broken.
const ROUNDS_MAX: u32 = 20_000;

pub(crate) fn close(simulation: &mut Simulation) {
    for faults in &simulation.world.faults {
        faults.hold_stable(false);
        faults.no_space(false);
    }
    simulation.end_all();
    simulation.unbind_all();
    let world = &mut simulation.world;
    while !world.is_quiet() {
        turn_all(world);
    }
    world.attached.clear();
    let mut served = Vec::new();
    for round in 0.. {
        assert!(round < ROUNDS_MAX, "the broker does not come to rest");
        serve_all(world, &mut served);
        turn_all(world);
        ack_all(world);
        if world.is_idle() {
            match world.next_deadline_ms() {
                None => break,
                Some(at) => world.now_ms = world.now_ms.max(at),
            }
        }
    }
    ask_all(world);
    for (id, destination) in &world.destinations {
        if !world.deleted.contains(id) {
            check_end(world, *id, &destination.name);
        }
        for (number, message) in &destination.messages {
            let told = message.outcome != Outcome::Pending;
            assert!(told, "{}: nobody was told what became of {number}", destination.name);
        }
    }
}

fn turn_all(world: &mut World) {
    for shard in 0..SHARDS {
        world.turn(shard, u64::MAX);
    }
}

/// Consumes from every queue and group that has no consumer yet; groups that
/// left messages out start over.
fn serve_all(world: &mut World, served: &mut Vec<(DestinationId, String)>) {
    let mut sources = Vec::new();
    for destination in world.directory.list() {
        let groups = destination.groups.keys();
        match destination.groups.is_empty() {
            true => sources.push((destination.id, String::new(), destination.shard)),
            false => sources
                .extend(groups.map(|group| (destination.id, group.clone(), destination.shard))),
        }
    }
    for (id, group, shard) in sources {
        if served.contains(&(id, group.clone())) {
            continue;
        }
        served.push((id, group.clone()));
        let is_group = !group.is_empty();
        if is_group && world.destinations[&id].groups[&group].has_gaps {
            let request = world.request();
            let command = Command::Seek {
                connection: LAST,
                request,
                stream: id,
                group: group.clone(),
                partition: None,
                to: Start::Earliest,
            };
            world.send(LAST, shard, command);
        }
        let request = world.request();
        let source = if is_group { Source::Group(id, group) } else { Source::Queue(id) };
        let command = Command::Attach {
            connection: LAST,
            subscription: SubscriptionId(served.len() as u32),
            request,
            source,
            credit: 10_000,
            name: String::new(),
            labels: String::new(),
        };
        world.send(LAST, shard, command);
    }
}

fn ack_all(world: &mut World) {
    for (consumer, tags) in std::mem::take(&mut world.hands) {
        for tag in tags {
            world.say(consumer, Settlement { first: tag, last: tag, verb: Verb::Ack });
        }
    }
}

fn ask_all(world: &mut World) {
    let all: Vec<_> = world.directory.list().map(|it| (it.id, it.shard)).collect();
    for (id, shard) in all {
        let request = world.request();
        world.asked.insert(id, request);
        world.send(LAST, shard, Command::Info { connection: LAST, request, id });
    }
    turn_all(world);
}

/// The sums of one destination.
fn check_end(world: &World, id: DestinationId, name: &str) {
    let destination = &world.destinations[&id];
    let stats = world.asked.get(&id).and_then(|request| world.stats.get(request));
    let stats = stats.unwrap_or_else(|| panic!("{name}: no figures"));
    let kept = destination.kept().count() as u64;
    if name.ends_with("/dead") {
        // What a consumer rejects here goes nowhere else: it is parked.
        assert_eq!(stats.messages, stats.groups[0].parked, "{name}: {stats:?}");
        return;
    }
    // What a process counts, it counts from its start on.
    if world.restarts == 0 {
        assert_eq!(stats.published, kept, "{name}: published is what was kept");
    }
    for figures in &stats.groups {
        let group = &destination.groups[&figures.name];
        let what = format!("{name}/{}: {figures:?}", figures.name);
        let moving = (figures.ready, figures.in_flight, figures.delayed);
        assert_eq!(moving, (0, 0, 0), "something is left over at {what}");
        assert_eq!(figures.lag, figures.parked, "the lag is not what is parked at {what}");
        let open: Vec<u64> = destination
            .kept()
            .filter(|message| !group.finished.contains(message) && !group.unsure.contains(message))
            .collect();
        if group.rule == Rule::AtMostOnce && world.level > Level::Memory {
            // Settled before it is sent: what was about to be is lost with its
            // consumer or with the process.
            let gone: u64 = open.len() as u64;
            assert!(gone <= figures.acked || world.restarts > 0, "lost: {open:?} at {what}");
        } else if destination.is_lossy {
            let gone = open.len() as u64 <= stats.removed + figures.parked;
            assert!(gone || world.restarts > 0, "lost without being counted: {open:?} at {what}");
        } else {
            assert!(open.len() as u64 <= figures.parked, "lost: {open:?} at {what}");
        }
        if group.rule == Rule::AtMostOnce {
            assert!(group.seen.values().all(|&seen| seen == 1), "more than once at {what}");
        }
    }
    if !destination.is_stream {
        let parked: u64 = stats.groups.iter().map(|group| group.parked).sum();
        assert_eq!(stats.messages, parked, "{name} keeps what is settled");
    }
}
