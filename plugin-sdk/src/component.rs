//! Glue between the generated traits and the author's: one policy per component,
//! kept in a slot between calls. Reached through the role macros only.

use crate::bindings::exports::weir::policy::{dispatching, filtering, lifecycle, routing};
use crate::bindings::weir::policy::types;
use crate::delivery::{Consumer, ConsumerId, Delivery, Group, GroupId, Storage};
use crate::filter::{Filter, filter_batch};
use crate::policy::{Policy, config_schema, read_config};
use crate::router::{Router, route_batch};
use crate::step::{event_rows, step_batch, wish_columns};
use crate::{Context, host};
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

/// A running policy, and the names of the headers it asked for.
struct Running<P> {
    policy: P,
    header_names: Vec<String>,
}

thread_local! {
    // One component holds one policy; the type is known to the macro that
    // exported it, and to nobody else.
    static SLOT: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

fn with<P: Policy, T>(call: impl FnOnce(&mut Running<P>) -> T) -> T {
    SLOT.with_borrow_mut(|slot| {
        let running = slot
            .as_mut()
            .and_then(|any| any.downcast_mut::<Running<P>>())
            .expect("init comes before every other call");
        call(running)
    })
}

/// The component that exports policy `P`.
#[derive(Debug)]
pub struct Component<P>(PhantomData<P>);

impl<P: Policy> lifecycle::Guest for Component<P> {
    fn describe() -> types::Manifest {
        P::manifest().into_wire(config_schema::<P::Config>())
    }

    fn init(context: types::Context) -> Result<(), String> {
        host::install_panic_hook();
        crate::hash::set_seed(context.seed);
        let config = read_config(&context.config)?;
        let policy = P::new(config, &Context::of(&context))?;
        let header_names = P::manifest().header_columns;
        SLOT.set(Some(Box::new(Running { policy, header_names })));
        Ok(())
    }

    fn check() -> Result<(), String> {
        with::<P, _>(|running| running.policy.check())
    }

    fn save() -> Result<Vec<u8>, String> {
        with::<P, _>(|running| running.policy.save())
    }

    fn load(version: u32, state: Vec<u8>) -> Result<(), String> {
        with::<P, _>(|running| running.policy.load(version, &state))
    }
}

impl<P: Router> routing::Guest for Component<P> {
    fn route(input: types::Batch) -> Result<routing::Routes, String> {
        with::<P, _>(|running| route_batch(&mut running.policy, &running.header_names, &input))
    }
}

impl<P: Filter> filtering::Guest for Component<P> {
    fn filter(input: types::Batch) -> Result<filtering::Verdicts, String> {
        with::<P, _>(|running| Ok(filter_batch(&mut running.policy, &running.header_names, &input)))
    }
}

impl<P: Delivery> dispatching::Guest for Component<P> {
    fn classify(subjects: types::Blobs) -> Result<Vec<u8>, String> {
        let mut start = 0;
        let mut levels = Vec::with_capacity(subjects.ends.len());
        for &end in &subjects.ends {
            let subject = std::str::from_utf8(&subjects.bytes[start..end as usize])
                .map_err(|_| "a subject is not UTF-8".to_owned())?;
            start = end as usize;
            levels.push(match with::<P, _>(|running| running.policy.classify(subject)) {
                Storage::Memory => 0,
                Storage::Logged => 1,
                Storage::Synced => 2,
                Storage::Chosen => 3,
            });
        }
        Ok(levels)
    }

    fn open(group: dispatching::Group) -> Result<dispatching::Plan, String> {
        let dispatching::Group { id, name, subject, options } = group;
        let group = Group { id: GroupId(id), name, subject, options };
        Ok(with::<P, _>(|running| running.policy.open(&group))?.into_wire())
    }

    fn join(consumer: dispatching::Consumer) -> Result<(), String> {
        let dispatching::Consumer { group, id, name, labels } = consumer;
        let consumer = Consumer { group: GroupId(group), id: ConsumerId(id), name, labels };
        with::<P, _>(|running| running.policy.join(&consumer))
    }

    fn close(group: u32) {
        with::<P, _>(|running| running.policy.close(GroupId(group)));
    }

    fn step(
        now_ms: u64,
        events: dispatching::Events,
        ready: Vec<types::Column>,
    ) -> Result<dispatching::Actions, String> {
        with::<P, _>(|running| {
            let Running { policy, header_names } = running;
            let wishes = step_batch(policy, header_names, now_ms, event_rows(&events), &ready);
            Ok(wish_columns(&wishes))
        })
    }
}
