//! The question about a subject alone, for callers that keep a table of their own.

use super::{Remembered, Scratch};
use crate::chain::{PublishChain, SubjectRoute, SubjectVerdict};
use crate::judge::{JudgeInput, Judged};
use crate::router::Memory;

impl Scratch {
    /// See [`PublishChain::verdict_for_subject`].
    pub(crate) fn subject_route(&mut self, chain: &PublishChain, subject: &str) -> SubjectRoute {
        let per_message = || SubjectRoute::new(SubjectVerdict::PerMessage, None);
        let number = self.plan(chain, subject.as_bytes()) as usize;
        if !self.plans[number].filters.is_empty() {
            return per_message();
        }
        let Some(at) = self.plans[number].router.map(usize::from) else {
            return SubjectRoute::new(SubjectVerdict::Identity, None);
        };
        let router = &*chain.routers[at];
        if router.memory != Memory::Subject {
            return per_message();
        }
        if self.plans[number].routes.is_none() {
            self.ask_about_subject(chain, at, subject);
        }
        let counters = Some(router.setup().counters.clone());
        let verdict = match &self.plans[number].routes {
            None => return per_message(),
            Some(Remembered::Own) => SubjectVerdict::Identity,
            Some(Remembered::Routes(routes)) if routes.iter().any(|route| route.delay_ms > 0) => {
                return per_message();
            }
            Some(Remembered::Routes(routes)) => {
                let names = &self.names;
                let targets = routes.iter().map(|route| names.text(route.name).clone());
                SubjectVerdict::Targets(targets.collect())
            }
        };
        SubjectRoute::new(verdict, counters)
    }

    /// Asks router `at` about a message that is nothing but its subject; the
    /// answer is remembered, and no message is counted.
    fn ask_about_subject(&mut self, chain: &PublishChain, at: usize, subject: &str) {
        let mut buffer = Vec::new();
        weir_message::encode(&mut buffer, subject, &[], &[], &[]);
        let Ok(parts) = weir_message::parse(&buffer, 0) else { return };
        let parts = [parts];
        let now = chain.routers[at].setup().clock.now();
        let input = JudgeInput { buffer: &buffer, parts: &parts, publisher: 0, now };
        let mut judged = Judged::default();
        judged.clear(1, chain.generation());
        self.start(1);
        self.find_plans(chain, input);
        self.sheet.uncounted = true;
        self.ask(&chain.routers[at], at, None, &[0], input, &mut judged);
        self.sheet.uncounted = false;
        // Nobody waits, and it is not to be kept for the next batch.
        self.sheet.stand_in = None;
    }
}
