//! The one way tests wait: for something to happen, with a deadline.

use std::time::Duration;

/// Longest that a test waits for anything. Far above what anything takes, also on
/// a machine that is busy with something else.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Time between two looks of [`until`].
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, looking again and again.
///
/// # Panics
/// After [`DEADLINE`], with `what`.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let looks = async {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !condition().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, looks).await.is_ok(), "waited in vain: {what}");
}

/// The outcome of `future`, which must come soon.
///
/// # Panics
/// After [`DEADLINE`], with `what`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// The outcome of `future` if it is at hand: looks once and does not wait. Behind a
/// `ping` of the same connection nothing that was sent before is still on its way.
pub async fn at_hand<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::ZERO, future).await.ok()
}
