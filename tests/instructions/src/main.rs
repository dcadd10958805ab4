//! Runs one scenario, so many turns that a count of its instructions says what a
//! message costs. `check.sh` starts it under callgrind, which counts only while
//! [`measured`] runs: what a scenario needs beforehand costs nothing.
//!
//! Without arguments it prints the names of the scenarios, with one it runs that
//! and prints the number of messages.

#![allow(clippy::print_stdout, reason = "the script reads it")]

mod chunk;
mod decode;
mod disk;
mod machine;
mod publish_path;
mod replay;
mod stream_turn;
mod turn;

use std::process::ExitCode;

/// Turns before the count starts: maps and lists have their size then.
const WARM_TURNS: u64 = 20;
/// Turns that are counted: what happens once in a while is averaged.
const TURNS: u64 = 200;

/// Work that is done turn by turn.
trait Scenario {
    /// Messages that one turn carries.
    fn messages(&self) -> u64;

    /// One turn. Returns how many messages came out at the end: one that is refused
    /// costs little, and must not count as carried.
    fn turn(&mut self) -> u64;
}

type Make = fn() -> Box<dyn Scenario>;

const SCENARIOS: [(&str, Make); 7] = [
    ("decode", || Box::new(decode::Decode::new())),
    ("turn-queue", || Box::new(turn::OneQueue::new())),
    ("turn-scatter", || Box::new(turn::Scatter::new())),
    ("turn-stream", || Box::new(stream_turn::Stream::new())),
    ("publish-path", || Box::new(publish_path::PublishPath::new())),
    ("publish-scatter", || Box::new(publish_path::ScatterPath::new())),
    ("replay", || Box::new(replay::Replay::new())),
];

/// What callgrind counts, with all that it calls; it finds it by its name.
#[inline(never)]
fn measured(scenario: &mut dyn Scenario, turns: u64) -> u64 {
    (0..turns).map(|_| scenario.turn()).sum()
}

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        SCENARIOS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, make)) = SCENARIOS.iter().find(|(known, _)| *known == name) else {
        println!("there is no scenario `{name}`");
        return ExitCode::FAILURE;
    };
    let mut scenario = make();
    (0..WARM_TURNS).for_each(|_| _ = scenario.turn());
    let messages = measured(&mut *scenario, TURNS);
    assert_eq!(messages, TURNS * scenario.messages(), "`{name}` does not do its work");
    println!("{messages}");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_carries_its_messages() {
        for (name, make) in SCENARIOS {
            let mut scenario = make();
            let expected = scenario.messages();
            assert!(expected > 0);
            for turn in 0..10 {
                assert_eq!(scenario.turn(), expected, "{name}, turn {turn}");
            }
        }
    }
}
