//! The brokers that can be measured, by name.

mod iggy;
mod nats;
mod rabbit;
mod redis;
mod relay;
mod socket;
mod weir;

use crate::driver::Driver;
pub(crate) use weir::{Weir, WeirConfig};

/// Name of the floor.
pub(crate) const RELAY: &str = "raw-relay";

/// A driver that can be used, or why not.
pub(crate) type Found = Result<Box<dyn Driver>, String>;

/// Every driver, in the order of the tables.
pub(crate) fn all(weir: &std::path::Path) -> Vec<(&'static str, Found)> {
    fn found<D: Driver + 'static>(driver: anyhow::Result<D>) -> Found {
        driver.map(|it| Box::new(it) as Box<dyn Driver>).map_err(|error| format!("{error:#}"))
    }
    vec![
        (RELAY, found(relay::Relay::find())),
        ("weir", found(Weir::find(weir, WeirConfig::default()))),
        ("nats", found(nats::Nats::find(nats::Manner::Single))),
        ("nats-batch", found(nats::Nats::find(nats::Manner::Batched))),
        ("redis", found(redis::Redis::find(redis::Queues::Streams))),
        ("rabbitmq", found(rabbit::Rabbit::find())),
        ("iggy", found(iggy::Iggy::find(iggy::Manner::InOrder))),
        ("iggy-4", found(iggy::Iggy::find(iggy::Manner::SideBySide))),
        ("redis-lists", found(redis::Redis::find(redis::Queues::Lists))),
    ]
}
