//! The language of the scripts, and the policies they bind.
//!
//! One line is one turn; ` && ` puts several clients' words into it. `wait 100` lets time pass and ticks at every deadline on
//! the way. See the scripts for the words; an unknown word panics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use expect_test::Expect;
use weir_message::{BatchBuilder, Header, encode};

use super::super::Shard;
use super::hands::{Hand, LetterFilter, TestPolicy};
use super::show::{show_run, show_stats};
use crate::command::*;
use crate::effect::{Effect, Free, Reply};
use crate::env::Now;
use crate::memory_store::{Faults, MemoryStore};
use crate::policy::*;

/// Wall clock at the start of every script, ms.
const WALL_MS: u64 = 1_000_000;

/// Runs `script` and compares what everybody saw.
pub(super) fn check(script: &str, seen: Expect) {
    check_over(MemoryStore::new(0).claiming(Level::Disk), script, seen);
}

/// As [`check`], over a store that an earlier process has left.
pub(super) fn check_over(store: MemoryStore, script: &str, seen: Expect) {
    let faults = store.faults();
    let mut world = World::over(Box::new(store), faults);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.line(line);
    }
    seen.assert_eq(&world.seen);
}

pub(super) struct World {
    shard: Shard,
    faults: Arc<Faults>,
    pub(super) now: Now,
    names: Vec<String>,
    /// The lines that make what there is again, after a restart.
    made: Vec<String>,
    ids: BTreeMap<String, DestinationId>,
    hands: BTreeMap<String, Arc<Mutex<Hand>>>,
    generations: u64,
    requests: u32,
    pub(super) seen: String,
}

impl World {
    pub(super) fn new() -> Self {
        let store = MemoryStore::new(0).claiming(Level::Disk);
        let faults = store.faults();
        Self::over(Box::new(store), faults)
    }

    /// Over a store that keeps nothing safer than in memory.
    pub(super) fn in_memory() -> Self {
        let store = MemoryStore::new(0);
        let faults = store.faults();
        Self::over(Box::new(store), faults)
    }

    fn over(store: Box<dyn crate::store::Store>, faults: Arc<Faults>) -> Self {
        Self {
            shard: Shard::new(store, 1000..1100),
            faults,
            now: Now { steady_ms: 0, wall_ms: WALL_MS },
            names: vec![String::new()],
            made: Vec::new(),
            ids: BTreeMap::new(),
            hands: BTreeMap::new(),
            generations: 0,
            requests: 0,
            seen: String::new(),
        }
    }

    /// Binds a policy of the test's own to everything.
    pub(super) fn bind_policy(&mut self, name: &str, policy: Box<dyn DeliveryPolicy>) {
        let (binding, scope) = (name.to_owned(), scope_of(&BTreeMap::new()));
        let command = Command::BindDelivery { binding, scope, policy: Some(policy) };
        let mut effects = Vec::new();
        self.shard.apply(self.now, command, &mut effects);
        self.shard.commit(self.now, &mut effects).expect("the store works");
        self.show(effects);
    }

    pub(super) fn line(&mut self, line: &str) {
        if let Some((first, rest)) = line.split_once(" && ") {
            let (who, words) = first.split_once(": ").unwrap();
            let (plain, options) = options_of(&words.split_whitespace().collect::<Vec<_>>());
            let (command, mut effects) = (self.client_command(who, &plain, &options), Vec::new());
            self.shard.apply(self.now, command, &mut effects);
            self.show(effects);
            return self.line(rest);
        }
        let (who, rest) = match line.split_once(": ") {
            Some((who, rest)) => (who, rest),
            None => ("", line),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (plain, options) = options_of(&words);
        let mut effects = Vec::new();
        if who.is_empty() {
            if matches!(plain[0], "queue" | "stream" | "group") {
                self.made.push(line.to_owned());
            }
            self.broker_line(&plain, &options, &mut effects);
        } else {
            let command = self.client_command(who, &plain, &options);
            self.shard.apply(self.now, command, &mut effects);
        }
        self.shard.commit(self.now, &mut effects).expect("the store works");
        self.show(effects);
    }

    fn broker_line(
        &mut self,
        words: &[&str],
        options: &BTreeMap<&str, &str>,
        effects: &mut Vec<Effect>,
    ) {
        let command = match words {
            ["wait", ms] => return self.wait(ms.parse().unwrap()),
            ["gaps", most] => {
                return self.shard.passes.budget.gaps_max = most.parse().unwrap();
            }
            ["keys", most] => {
                return self.shard.passes.budget.keys_max = most.parse().unwrap();
            }
            ["turns", bytes] => return self.shard.bound_turns(bytes.parse().unwrap()),
            ["hold", "stable"] => return self.faults.hold_stable(true),
            ["free", "stable"] => return self.faults.hold_stable(false),
            ["full", "store"] => return self.faults.no_space(true),
            ["free", "store"] => return self.faults.no_space(false),
            ["restart"] => return self.restart(),
            ["later", ms] => return self.now.wall_ms += ms.parse::<u64>().unwrap(),
            ["earlier", ms] => return self.now.wall_ms -= ms.parse::<u64>().unwrap(),
            ["queue", name] => {
                let id = self.new_id(name);
                Command::CreateQueue { id, name: (*name).to_owned(), config: queue_config(options) }
            }
            ["alter", name] => {
                Command::AlterQueue { id: self.ids[*name], config: queue_config(options) }
            }
            ["stream", name] => {
                let id = self.new_id(name);
                let config = stream_config(options);
                Command::CreateStream { id, name: (*name).to_owned(), config }
            }
            ["alter-stream", name] => {
                Command::AlterStream { id: self.ids[*name], config: stream_config(options) }
            }
            ["group", name] => {
                let (stream, group) = name.split_once('/').unwrap();
                let config = GroupConfig {
                    start: options.get("start").map_or(Start::Earliest, |word| start_of(word)),
                    order: number(options, "order", 0),
                    options: options.get("options").map_or("", |text| text).to_owned(),
                };
                let stream = self.ids[stream];
                Command::PutGroup { stream, group: group.to_owned(), config }
            }
            ["delete", name] => {
                match name.split_once('/').filter(|_| !self.ids.contains_key(*name)) {
                    Some((stream, group)) => {
                        self.made.retain(|line| !line.starts_with(&format!("group {name}")));
                        let stream = self.ids[stream];
                        Command::DeleteGroup { stream, group: group.to_owned() }
                    }
                    None => {
                        self.made.retain(|line| !line.contains(&format!(" {name}")));
                        Command::Delete { id: self.ids[*name] }
                    }
                }
            }
            ["bind", name] => self.bind(name, options),
            ["unbind", name] => {
                let binding = (*name).to_owned();
                Command::BindDelivery { binding, scope: Scope::default(), policy: None }
            }
            ["filter", name] => Command::BindFilter {
                binding: (*name).to_owned(),
                scope: scope_of(options),
                filter: Some(Box::new(LetterFilter)),
            },
            ["unfilter", name] => {
                let binding = (*name).to_owned();
                Command::BindFilter { binding, scope: Scope::default(), filter: None }
            }
            ["fail", name, how] => {
                let reason = "it trapped".to_owned();
                self.hands[*name].lock().unwrap().failure = Some(match *how {
                    "refused" => Failure::Refused(reason),
                    "restarted" => Failure::Restarted(reason),
                    _ => Failure::Broken(reason),
                });
                return;
            }
            ["wish", name, kind] => {
                let kind = match *kind {
                    "dispatch" => action::DISPATCH,
                    "retry" => action::RETRY,
                    "dead-letter" => action::DEAD_LETTER,
                    "drop" => action::DROP,
                    "park" => action::PARK,
                    "extend" => action::EXTEND,
                    "wake" => action::WAKE,
                    other => other.parse().unwrap(),
                };
                let wish = Action {
                    kind,
                    code: number(options, "code", 0),
                    group: number(options, "group", 0),
                    consumer: number(options, "consumer", 0),
                    value: number(options, "value", 0),
                    message: number(options, "message", 0),
                };
                return self.hands[*name].lock().unwrap().wishes.push_back(wish);
            }
            ["calls", name] => {
                let calls = std::mem::take(&mut self.hands[*name].lock().unwrap().calls);
                return writeln!(self.seen, "{name} was called {calls} times").unwrap();
            }
            other => panic!("no such line: {other:?}"),
        };
        self.shard.apply(self.now, command, effects);
    }

    fn bind(&mut self, name: &str, options: &BTreeMap<&str, &str>) -> Command {
        self.generations += 1;
        let interest = options.get("hears").map_or(0, |kinds| {
            kinds
                .split(',')
                .map(|kind| if kind == "all" { 0x7ffe } else { 1 << kind.parse::<u32>().unwrap() })
                .sum()
        });
        let plan = Plan {
            interest,
            chooser: number(options, "chooser", 1),
            spread: number(options, "spread", 0),
            ack: number(options, "ack", 1),
            order: number(options, "order", 0),
            exhausted: number(options, "exhausted", 0),
            lease_ms: number(options, "lease", 1000),
            attempts: number(options, "attempts", 0),
            retry_first_ms: number(options, "retry", 100),
            retry_max_ms: number(options, "retry_max", 1000),
            retry_growth: number(options, "growth", 200),
            window: number(options, "window", 100),
            per_consumer: number(options, "per_consumer", 0),
            tick_ms: number(options, "tick", 0),
            undecided_ms_max: number(options, "undecided", 0),
            bytes_per_consumer: number(options, "bytes", 0),
        };
        let powers = options.get("powers").unwrap_or(&"");
        let hand = self.hands.entry(name.to_owned()).or_default();
        let mut shared = hand.lock().unwrap();
        shared.plan = Some(plan);
        shared.powers = Powers {
            drop: powers.contains("drop"),
            dead_letter: powers.contains("dead-letter"),
            transient: powers.contains("transient"),
            ..Powers::default()
        };
        shared.deals = options.contains_key("deals");
        shared.shows = options.contains_key("shows");
        shared.turns_away = options.get("turns_away").unwrap_or(&"").to_string();
        if let Some(classes) = options.get("classes") {
            shared.classes = classes
                .split(',')
                .map(|one| one.split_once(':').unwrap())
                .map(|(subject, class)| (subject.to_owned(), class.parse().unwrap()))
                .collect();
        }
        shared.failure = None;
        drop(shared);
        let policy = TestPolicy::new(name, self.generations, hand.clone());
        let scope = scope_of(options);
        Command::BindDelivery { binding: name.to_owned(), scope, policy: Some(Box::new(policy)) }
    }

    fn client_command(
        &mut self,
        who: &str,
        words: &[&str],
        options: &BTreeMap<&str, &str>,
    ) -> Command {
        let (name, subscription) = who.split_once('/').unwrap_or((who, "1"));
        let subscription = SubscriptionId(subscription.parse().unwrap());
        let connection = self.connection(name);
        self.requests += 1;
        let request = RequestId(self.requests);
        let settle = |range: &str, verb| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            let settlements = vec![Settlement { first, last, verb }];
            let request = options.contains_key("asks").then_some(request);
            Command::Settle { connection, subscription, request, settlements }
        };
        match words {
            ["publish", to, messages @ ..] => {
                let mut batch = BatchBuilder::default();
                for message in messages {
                    let (key, payload) = message.split_once('/').unwrap_or(("", message));
                    let mut headers = Vec::new();
                    if let Some(text) = options.get("header") {
                        let header = Header { name: "h", value: text.as_bytes(), text: false };
                        Header::encode_all(&mut headers, &[header]);
                    }
                    let mut bytes = Vec::new();
                    encode(&mut bytes, to, key.as_bytes(), &headers, payload.as_bytes());
                    batch.push(&bytes);
                }
                Command::Publish(Publish {
                    destination: self.ids.get(*to).copied().unwrap_or(DestinationId(999)),
                    connection,
                    receipt: Some(ReceiptId(0)),
                    batch: batch.take(),
                    rows: Rows::new(),
                    delay_ms: number(options, "delay", 0),
                })
            }
            ["consume", from] => Command::Attach {
                connection,
                subscription,
                request,
                source: match self.ids.get(*from) {
                    Some(&id) => Source::Queue(id),
                    None => {
                        let (stream, group) = from.split_once('/').unwrap();
                        Source::Group(self.ids[stream], group.to_owned())
                    }
                },
                credit: number(options, "credit", 0),
                name: name.to_owned(),
                labels: String::new(),
            },
            ["detach"] => Command::Detach { connection, subscription, request },
            ["lost"] => Command::Disconnect { connection },
            ["pause"] => Command::Pause { connection },
            ["resume"] => Command::Resume { connection },
            ["credit", amount] => {
                Command::Credit { connection, subscription, amount: amount.parse().unwrap() }
            }
            ["pull", max] => Command::Pull {
                connection,
                subscription,
                request,
                max: max.parse().unwrap(),
                wait_ms: number(options, "wait", 0),
            },
            ["ack", range] => settle(range, Verb::Ack),
            ["nack", range] => {
                let (delay_ms, code) = (number(options, "delay", 0), number(options, "code", 0));
                settle(range, Verb::Nack { delay_ms, code })
            }
            ["extend", range] => settle(range, Verb::Extend { by_ms: number(options, "by", 0) }),
            ["reject", range] => settle(range, Verb::Reject { code: number(options, "code", 0) }),
            ["flush"] => {
                let (request, settlements) = (Some(request), Vec::new());
                Command::Settle { connection, subscription, request, settlements }
            }
            ["seek", group, to] => {
                let (stream, group) = group.split_once('/').unwrap();
                Command::Seek {
                    connection,
                    request,
                    stream: self.ids[stream],
                    group: group.to_owned(),
                    partition: options.get("partition").map(|text| text.parse().unwrap()),
                    to: start_of(to),
                }
            }
            ["read", stream, from] => Command::Read {
                connection,
                request,
                stream: self.ids[*stream],
                partition: number(options, "partition", 0),
                from: start_of(from),
                messages_max: number(options, "max", 100),
                bytes_max: number(options, "bytes", 100_000),
            },
            ["info", name] => Command::Info { connection, request, id: self.ids[*name] },
            ["purge", name] => Command::Purge { connection, request, id: self.ids[*name] },
            other => panic!("no such words: {other:?}"),
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.steady_ms + ms;
        loop {
            let at = self.shard.next_deadline().unwrap_or(u64::MAX);
            let to = at.clamp(self.now.steady_ms, until);
            let due = at <= until;
            self.now.wall_ms += to - self.now.steady_ms;
            self.now.steady_ms = to;
            if !due {
                break;
            }
            let mut effects = Vec::new();
            self.shard.tick(self.now, &mut effects);
            self.shard.commit(self.now, &mut effects).expect("the store works");
            let seen = self.seen.len();
            self.show(effects);
            if self.seen.len() > seen {
                let at = format!("{} ms:\n", self.now.steady_ms);
                self.seen.insert_str(seen, &at);
            }
        }
    }

    /// Another process over the same store: connections and policies are gone,
    /// the steady clock starts anew.
    fn restart(&mut self) {
        let empty = Shard::new(Box::new(MemoryStore::new(0)), 0..0);
        let store = std::mem::replace(&mut self.shard, empty).into_store();
        let first = 1000 + self.made.len() as u32;
        self.shard = Shard::new(store, first..1100);
        self.now.steady_ms = 5;
        self.ids.clear();
        for line in std::mem::take(&mut self.made) {
            self.line(&line);
        }
    }

    fn new_id(&mut self, name: &str) -> DestinationId {
        let id = DestinationId(self.ids.len() as u32 + 1);
        self.ids.insert(name.to_owned(), id);
        id
    }

    fn connection(&mut self, name: &str) -> ConnectionId {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        ConnectionId(place as u64)
    }

    fn show(&mut self, effects: Vec<Effect>) {
        for hand in self.hands.values() {
            self.seen.push_str(&std::mem::take(&mut hand.lock().unwrap().heard));
        }
        for effect in effects {
            let text = self.show_effect(effect);
            if !text.is_empty() {
                writeln!(self.seen, "{text}").unwrap();
            }
        }
    }

    fn show_effect(&mut self, effect: Effect) -> String {
        let who = |connection: ConnectionId| &self.names[connection.0 as usize];
        match effect {
            Effect::Published { connection, count, rows, outcome, .. } => {
                let rows = if rows.is_empty() { String::new() } else { format!(" rows {rows:?}") };
                format!("{} <- published {count}{rows}: {outcome:?}", who(connection))
            }
            Effect::Deliver { connection, subscription, runs } => {
                let number = match subscription.0 {
                    1 => String::new(),
                    other => format!("/{other}"),
                };
                let runs: Vec<String> = runs.iter().map(show_run).collect();
                format!("{}{number} <- deliver {}", who(connection), runs.join(" | "))
            }
            Effect::Reply { connection, reply, .. } => match reply {
                Reply::Done => String::new(),
                Reply::Records { runs, next, start, end } => {
                    let runs: Vec<String> = runs.iter().map(show_run).collect();
                    let runs = runs.join(" | ");
                    format!("{} <- records {runs}, next {next} of {start}..{end}", who(connection))
                }
                Reply::Stats(stats) => format!("{} <- {}", who(connection), show_stats(&stats)),
                other => format!("{} <- {other:?}", who(connection)),
            },
            Effect::Lost { connection, partition, from, to, count, .. } => {
                let place = if partition > 0 { format!(" in {partition}") } else { String::new() };
                format!("{} <- lost {count} of {from}..{to}{place}", who(connection))
            }
            Effect::Ended { connection, reason, .. } => {
                format!("{} <- ended {reason:?}", who(connection))
            }
            Effect::QueueMade { name, id } => {
                let text = format!("broker makes {name}");
                self.made.push(format!("queue {name} level=disk"));
                self.ids.insert(name, id);
                text
            }
            Effect::Pressed { queue, free } => {
                let name = self.ids.iter().find(|(_, id)| **id == queue).map(|(name, _)| &**name);
                let name = name.unwrap_or("a queue that is gone");
                match free {
                    Some(Free { messages, bytes: u64::MAX }) => {
                        format!("{name} has {messages} free")
                    }
                    Some(Free { bytes, .. }) => format!("{name} has {bytes} bytes free"),
                    None => format!("{name} is pressed no more"),
                }
            }
            Effect::PolicyFailed { binding, generation, reason } => {
                format!("policy {binding}.{} failed: {reason}", generation.number)
            }
        }
    }
}

fn options_of<'a>(words: &[&'a str]) -> (Vec<&'a str>, BTreeMap<&'a str, &'a str>) {
    let mut plain = Vec::new();
    let mut options = BTreeMap::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => drop(options.insert(name, value)),
            None if matches!(*word, "deals" | "shows" | "asks") => {
                options.insert(word, "");
            }
            None => plain.push(*word),
        }
    }
    (plain, options)
}

fn number<T: std::str::FromStr>(options: &BTreeMap<&str, &str>, name: &str, default: T) -> T {
    match options.get(name) {
        Some(text) => text.parse().ok().expect("a number"),
        None => default,
    }
}

fn queue_config(options: &BTreeMap<&str, &str>) -> QueueConfig {
    QueueConfig {
        messages_max: number(options, "messages_max", 0),
        bytes_max: number(options, "bytes_max", 0),
        level: level_of(options),
        order: number(options, "order", 0),
    }
}

fn stream_config(options: &BTreeMap<&str, &str>) -> StreamConfig {
    StreamConfig {
        partitions: number(options, "partitions", 1),
        messages_max: number(options, "messages_max", 0),
        bytes_max: number(options, "bytes_max", 0),
        age_ms_max: number(options, "age", 0),
        level: level_of(options),
        compact: options.contains_key("compact"),
        tombstone_ms: number(options, "tombstone", crate::limits::TOMBSTONE_MS),
    }
}

fn level_of(options: &BTreeMap<&str, &str>) -> Level {
    match options.get("level") {
        Some(&"os") => Level::Os,
        Some(&"disk") => Level::Disk,
        _ => Level::Memory,
    }
}

fn scope_of(options: &BTreeMap<&str, &str>) -> Scope {
    let list = |name| {
        let globs: &str = options.get(name).unwrap_or(&"*");
        globs.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let groups = options.get("groups").map_or_else(|| vec!["*/*".to_owned()], |_| list("groups"));
    Scope { queues: list("queues"), groups, order: number(options, "rank", 0) }
}

fn start_of(word: &str) -> Start {
    match word.split_once(':') {
        Some(("offset", offset)) => Start::Offset(offset.parse().unwrap()),
        Some(("time", time)) => Start::Time(WALL_MS + time.parse::<u64>().unwrap()),
        _ if word == "latest" => Start::Latest,
        _ => Start::Earliest,
    }
}
