//! How one generation is asked about rows, whatever its role: all of them in one
//! call; when that fails, whatever it falls back to is asked instead, or else the
//! rows in halves until the offending ones stand alone. Used by the filters of
//! both stages.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use weir_core::env::Now;

use crate::caller::{Asked, Caller};
use crate::instance::{CallError, Instance};

/// Asks `caller` about `rows` rows; `call` makes one call about the rows
/// `start..end`, and `sink` is given what came of each row once. When the call
/// failed and there is a fallback, that is handed back, nothing was given to
/// `sink`, and all rows are the fallback's.
pub(crate) fn ask<A, B>(
    caller: &Caller,
    now: Now,
    rows: usize,
    fallback: &ArcSwapOption<B>,
    call: &mut impl FnMut(&mut Instance, usize, usize) -> Result<A, CallError>,
    sink: &mut impl FnMut(Asked<A>),
) -> Option<Arc<B>> {
    match caller.attempt(now, rows, true, fallback, call) {
        Ok(answer) => sink(Asked::Answer { start: 0, end: rows, answer }),
        Err(error) => {
            if let Some(fallback) = fallback.load_full() {
                return Some(fallback);
            }
            caller.halve(rows, &error, call, sink);
        }
    }
    None
}
