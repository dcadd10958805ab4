//! Makes generations: compiles a component once per content, checks it against
//! its binding, tries it out, and builds what runs. Nothing made here has met a
//! message yet. Used by the loader, on the loader's thread only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use weir_core::env::{Clock, Random};
use weir_core::policy::{DeliveryPolicy, Generation};

use crate::binding::{Binding, Grant, powers};
use crate::component::Component;
use crate::counters::Counters;
use crate::deliver_filter::WasmDeliveryFilter;
use crate::delivery::WasmDelivery;
use crate::engine::Engine;
use crate::error::LoadError;
use crate::filter::FilterBinding;
use crate::folder::{Code, Plugin, Source};
use crate::generation::{Good, Key, Record, Running};
use crate::kv::Kv;
use crate::metrics::PolicyMetrics;
use crate::router::RouterBinding;
use crate::schema;
use crate::settle::Stamp;
use crate::setup::{Role, Setup, TroubleSink};

/// A binding with the code it names: not tried yet.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) binding: Arc<Binding>,
    pub(crate) source: Source,
    pub(crate) code: Code,
    /// What `plugin.toml` says.
    pub(crate) version: Option<String>,
    pub(crate) key: Key,
}

impl Candidate {
    /// `binding` with `plugin`, whose code is `code`.
    pub(crate) fn new(
        binding: &Arc<Binding>,
        stamp: Option<&Stamp>,
        plugin: &Plugin,
        code: &Code,
    ) -> Self {
        let key = Key {
            component: Arc::clone(&code.digest),
            definition: Arc::clone(&binding.digest),
            stamps: stamp.into_iter().chain(&plugin.stamps).cloned().collect(),
        };
        let (source, version) = (plugin.source, plugin.version.clone());
        Self { binding: Arc::clone(binding), source, code: code.clone(), version, key }
    }
}

/// What was built of a generation, ready to be put in charge.
pub(crate) enum Built {
    Router(RouterBinding),
    Filter(FilterBinding),
    /// One per shard.
    Delivery(Vec<Box<dyn DeliveryPolicy>>),
    /// One per shard.
    DeliverFilter(Vec<WasmDeliveryFilter>),
}

/// The tools, and the components compiled so far.
pub(crate) struct Workshop {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) shards: u32,
    pub(crate) trouble: TroubleSink,
    /// By digest; what did not compile is remembered too, so that it is not
    /// compiled again for each binding that names it.
    pub(crate) compiled: HashMap<Arc<str>, Result<Arc<Component>, LoadError>>,
}

impl Workshop {
    /// Takes a candidate through every check that needs no traffic.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub(crate) fn check(&mut self, record: &Record, candidate: &Candidate) -> Result<Good, String> {
        let component = self.component(&candidate.code).map_err(|error| error.to_string())?;
        let manifest = component.manifest();
        if candidate.source == Source::Folder && manifest.name != candidate.binding.policy {
            return Err(format!(
                "the component calls itself `{}`, its folder and plugin.toml `{}`",
                manifest.name, candidate.binding.policy
            ));
        }
        let version = manifest.version.to_string();
        if let Some(declared) = candidate.version.as_ref().filter(|declared| **declared != version)
        {
            return Err(format!("the component is version {version}, plugin.toml says {declared}"));
        }
        let binding = &candidate.binding;
        let role = binding.fit(component.roles())?;
        let powers = match binding.grant {
            Grant::Listed(powers) => powers,
            Grant::Wanted => powers(&manifest.wants)?,
        };
        schema::validate(&manifest.config_schema, &binding.config)
            .map_err(|error| error.to_string())?;
        let good = Good {
            key: candidate.key.clone(),
            binding: Arc::clone(binding),
            role,
            powers,
            source: candidate.source,
            kv: record.kv_of(&manifest.name, self.shards, binding.keep_kv),
            component: Arc::clone(&component),
        };
        let mut scratch = self.setup(record, &good, record.numbers_used + 1, 0, Arc::default());
        scratch.kv = Arc::new(Kv::default());
        scratch.metrics = Arc::new(PolicyMetrics::default());
        component.try_out(&scratch).map_err(|error| error.to_string())?;
        Ok(good)
    }

    /// Builds what runs, as generation `number`. `lean_on` judges the batches that
    /// the new one fails on in its first moments.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub(crate) fn build(
        &self,
        record: &Record,
        good: &Good,
        number: u64,
        counters: &Arc<Counters>,
        lean_on: Option<Running>,
    ) -> Result<Built, String> {
        let (router, filter) = match lean_on {
            Some(Running::Router(router)) => (Some(router), None),
            Some(Running::Filter(filter)) => (None, Some(filter)),
            _ => (None, None),
        };
        let setup = |shard| self.setup(record, good, number, shard, Arc::clone(counters));
        let component = || Arc::clone(&good.component);
        let shards = 0..self.shards;
        let built = match good.role {
            Role::Router => RouterBinding::new(component(), setup(0), router).map(Built::Router),
            Role::Filter if good.binding.at_publish(Role::Filter) => {
                FilterBinding::new(component(), setup(0), filter).map(Built::Filter)
            }
            Role::Filter => shards
                .map(|shard| WasmDeliveryFilter::start(component(), setup(shard)))
                .collect::<Result<_, _>>()
                .map(Built::DeliverFilter),
            Role::Delivery => shards
                .map(|shard| WasmDelivery::new(component(), setup(shard)))
                .collect::<Result<_, _>>()
                .map(Built::Delivery),
        };
        built.map_err(|error| error.to_string())
    }

    fn component(&mut self, code: &Code) -> Result<Arc<Component>, LoadError> {
        if let Some(known) = self.compiled.get(&code.digest) {
            return known.clone();
        }
        let loaded = Component::load(&self.engine, &code.bytes);
        self.compiled.insert(Arc::clone(&code.digest), loaded.clone());
        loaded
    }

    /// Forgets every compiled component outside `needed`.
    pub(crate) fn forget(&mut self, needed: &HashSet<Arc<str>>) {
        self.compiled.retain(|digest, _| needed.contains(digest));
    }

    fn setup(
        &self,
        record: &Record,
        good: &Good,
        number: u64,
        shard: u32,
        counters: Arc<Counters>,
    ) -> Setup {
        let binding = &good.binding;
        Setup {
            binding: Arc::clone(&record.name),
            role: good.role,
            stage: binding.stage,
            generation: Generation { number, digest: Arc::clone(good.component.digest()) },
            subjects: binding.subjects.clone(),
            order: binding.order,
            config_json: binding.config.to_string(),
            powers: good.powers,
            limits: binding.limits,
            on_failure: binding.on_failure,
            shard,
            shards: self.shards,
            kv: Arc::clone(&good.kv[shard as usize]),
            counters,
            metrics: Arc::clone(&record.metrics),
            log: Arc::clone(&record.log),
            random: Arc::clone(&self.random),
            clock: Arc::clone(&self.clock),
            trouble: Some(Arc::clone(&self.trouble)),
        }
    }
}
