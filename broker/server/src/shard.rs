//! The task that owns one shard of the core: takes batches of commands, runs a
//! turn, hands the effects out.
//!
//! Nobody else touches the machine. A turn never waits; between turns the task
//! sleeps until commands come, the store has moved on, or the machine's next deadline
//! is due. While too much is on its way to the disk it takes no commands: its inbox
//! fills, and whoever sends waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use weir_core::command::{Command, ConnectionId, DestinationId};
use weir_core::effect::Effect;
use weir_core::env::{Clock, Now};
use weir_core::policy::Generation;
use weir_core::shard::Shard;
use weir_core::store::StoreError;

use crate::books::OnFault;
use crate::connections::Connections;
use crate::limits::{CONGESTED_LOOK_MS, TURN_BATCHES_MAX};
use crate::outbox::Outbox;
use crate::pressed::PressedQueues;
use crate::resumed::Resumed;
use crate::room::Room;
use crate::shards::{Admitted, CommandBatch, Inbox};
use crate::wire;

/// What the clock cuts off at most: a delay that began in the middle of a
/// millisecond ends one later, never too early.
const CLOCK_CUT_MS: u64 = 1;

/// What a shard has to tell that concerns no connection.
#[derive(Debug)]
pub enum Notice {
    /// A dead-letter queue was made: the directory must learn of it.
    QueueMade {
        /// Its name.
        name: String,
        /// Its number.
        id: DestinationId,
    },
    /// A delivery policy failed for good in a shard.
    PolicyFailed {
        /// The binding.
        binding: String,
        /// The generation that failed.
        generation: Generation,
        /// One sentence.
        reason: String,
    },
}

/// One shard and what it needs to run.
pub struct ShardTask {
    /// Its number.
    pub number: u32,
    /// The machine.
    pub machine: Shard,
    /// Where commands come from.
    pub inbox: Inbox,
    /// Rung by the store when it has moved on.
    pub bell: Arc<Notify>,
    /// Told of a store that failed, before anything else happens.
    pub on_fault: OnFault,
    /// Where effects go to.
    pub connections: Arc<Connections>,
    /// Connections that were paused and have room again.
    pub resumed: Arc<Resumed>,
    /// Where notices go to.
    pub notices: mpsc::Sender<Notice>,
    /// What is told of room for messages.
    pub room: Arc<Room>,
    /// Queues that are pressed, as publishers see them.
    pub pressed: Arc<PressedQueues>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when it is to finish what it has and end.
    pub stop: CancellationToken,
}

impl ShardTask {
    /// Makes anew what an earlier process has left, in one turn.
    ///
    /// # Errors
    /// A store that failed.
    pub fn begin(&mut self, commands: Vec<Command>) -> Result<(), StoreError> {
        let now = self.clock.now();
        // Nobody is connected yet, and no policy is bound: there is nobody to tell.
        let mut effects = Vec::new();
        for command in commands {
            self.machine.apply(now, command, &mut effects);
        }
        self.machine.commit(now, &mut effects)
    }

    /// Runs until it is stopped; then the inbox is empty and every effect is
    /// handed out.
    ///
    /// # Errors
    /// A store that failed: nothing may be acknowledged from then on, so the
    /// process must end.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut batches: Vec<CommandBatch> = Vec::with_capacity(TURN_BATCHES_MAX);
        let mut effects = Vec::new();
        loop {
            if !self.wait(&mut batches).await {
                return Ok(());
            }
            let turn = self.turn(&mut batches, &mut effects);
            if let Err(failure) = turn {
                error!(shard = self.number, %failure, "the store failed, nothing more is acknowledged");
                (self.on_fault)(&failure);
                return Err(failure);
            }
            for notice in self.emit(&mut effects) {
                if self.notices.send(notice).await.is_err() {
                    warn!(shard = self.number, "a notice came after the broker stopped listening");
                }
            }
            // A busy shard must let the connections' tasks have their turn.
            tokio::task::consume_budget().await;
        }
    }

    /// Takes commands, or waits for the next deadline. False when the inbox is
    /// closed and empty.
    async fn wait(&mut self, batches: &mut Vec<CommandBatch>) -> bool {
        let due = self.machine.next_deadline();
        let is_congested = self.machine.is_congested();
        let due = due.map(|due| due + CLOCK_CUT_MS);
        let wait_ms = due.map_or(u64::MAX, |due| due.saturating_sub(self.clock.now().steady_ms));
        tokio::select! {
            biased;
            taken = self.inbox.recv_many(batches, TURN_BATCHES_MAX), if !is_congested => taken > 0,
            () = self.stop.cancelled(), if !self.inbox.is_closed() => {
                self.inbox.close();
                true
            }
            () = self.resumed.wait() => true,
            () = self.bell.notified() => true,
            () = tokio::time::sleep(Duration::from_millis(wait_ms)), if due.is_some() => true,
            // What is on its way may be another shard's: then no bell rings here.
            () = tokio::time::sleep(Duration::from_millis(CONGESTED_LOOK_MS)), if is_congested => true,
        }
    }

    fn turn(
        &mut self,
        batches: &mut Vec<CommandBatch>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        for connection in self.resumed.take() {
            self.machine.apply(now, Command::Resume { connection }, effects);
        }
        let (machine, mut told) = (&mut self.machine, Vec::new());
        self.pressed.begin_turn(|id, messages| {
            machine.apply(now, Command::CountRefused { id, messages }, effects);
        });
        for batch in batches.drain(..) {
            for Admitted { queue, messages, bytes } in batch.admitted {
                queue.arrive(messages, bytes);
            }
            for command in batch.commands {
                self.machine.apply(now, command, effects);
            }
            told.extend(batch.done);
        }
        let passed = Now { steady_ms: now.steady_ms.saturating_sub(CLOCK_CUT_MS), ..now };
        self.machine.tick(passed, effects);
        self.machine.commit(now, effects)?;
        // They are the last. Publishers hear of room before anybody hears what made it.
        if let Some(Effect::Pressed { .. }) = effects.last() {
            self.pressed.note(std::iter::from_fn(|| {
                let pressed = effects.pop_if(|last| matches!(last, Effect::Pressed { .. }));
                let Some(Effect::Pressed { queue, free }) = pressed else { return None };
                Some((queue, free))
            }));
        }
        for done in told {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
        Ok(())
    }

    /// Hands effects out, one lock per run of effects for the same connection.
    /// What concerns no connection is returned. Consumers of a connection with too
    /// much to send are paused: the machine hands them nothing more.
    fn emit(&mut self, effects: &mut Vec<Effect>) -> Vec<Notice> {
        let mut touched: Vec<Arc<Outbox>> = Vec::new();
        let mut last: Option<Arc<Outbox>> = None;
        let mut notices = Vec::new();
        let mut paused = Vec::new();
        let mut left = effects.drain(..).peekable();
        while let Some(effect) = left.next() {
            let Some(connection) = connection_of(&effect) else {
                notices.extend(notice(effect));
                continue;
            };
            if last.as_ref().is_none_or(|outbox| outbox.connection != connection) {
                last = self.connections.get(connection);
            }
            // Gone: its Disconnect is on the way, or was the cause of this.
            let Some(outbox) = &last else { continue };
            let (ring, is_long) = outbox.push_effects(&self.resumed, |pen| {
                wire::effect(pen, effect, &self.room);
                while let Some(next) = left.next_if(|next| connection_of(next) == Some(connection))
                {
                    wire::effect(pen, next, &self.room);
                }
            });
            if is_long {
                paused.push(connection);
            }
            if ring {
                touched.push(outbox.clone());
            }
        }
        drop(left);
        for connection in paused {
            let pause = Command::Pause { connection };
            self.machine.apply(self.clock.now(), pause, effects);
        }
        touched.iter().for_each(|outbox| outbox.ring());
        notices
    }
}

fn notice(effect: Effect) -> Option<Notice> {
    match effect {
        Effect::QueueMade { name, id } => Some(Notice::QueueMade { name, id }),
        Effect::PolicyFailed { binding, generation, reason } => {
            Some(Notice::PolicyFailed { binding, generation, reason })
        }
        _ => None,
    }
}

fn connection_of(effect: &Effect) -> Option<ConnectionId> {
    match effect {
        Effect::Published { connection, .. }
        | Effect::Deliver { connection, .. }
        | Effect::Reply { connection, .. }
        | Effect::Lost { connection, .. }
        | Effect::Ended { connection, .. } => Some(*connection),
        Effect::Pressed { .. } | Effect::QueueMade { .. } | Effect::PolicyFailed { .. } => None,
    }
}
