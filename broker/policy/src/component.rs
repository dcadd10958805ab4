//! A component: compiled once, checked, immutable, shared by every binding that
//! uses it. The loader makes them; [`crate::instance`] runs them.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Compiled, InstancePre};

use crate::bindings::exports::weir::policy::{dispatching, filtering, lifecycle, routing};
use crate::engine::Engine;
use crate::error::LoadError;
use crate::host::State;
use crate::instance::Instance;
use crate::limits;
use crate::manifest::Manifest;
use crate::setup::{Role, Setup};
use crate::ticker::Pulse;

/// The interfaces a policy may import, and their functions.
const OFFERED: [(&str, &[&str]); 5] = [
    ("log", &["write", "enabled"]),
    ("metrics", &["define", "add", "put"]),
    ("clock", &["wall-ms", "steady-us"]),
    ("kv", &["get", "put", "remove", "add", "keys"]),
    ("types", &[]),
];
/// The track of `weir:policy` this broker speaks.
const TRACK: &str = "0.1.";

/// Which roles a component has: the interfaces it exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Exports `routing`.
    pub router: bool,
    /// Exports `filtering`.
    pub filter: bool,
    /// Exports `dispatching`.
    pub delivery: bool,
}

impl Roles {
    /// Whether `role` is one of them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        match role {
            Role::Router => self.router,
            Role::Filter => self.filter,
            Role::Delivery => self.delivery,
        }
    }

    /// The roles, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        [Role::Router, Role::Filter, Role::Delivery].into_iter().filter(move |&r| self.has(r))
    }

    /// The role, when there is exactly one.
    #[must_use]
    pub fn only(self) -> Option<Role> {
        let mut roles = self.iter();
        roles.next().filter(|_| roles.next().is_none())
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roles: Vec<_> = self.iter().map(Role::as_str).collect();
        f.write_str(&roles.join(" and "))
    }
}

/// A component that passed every check that needs no configuration.
pub struct Component {
    engine: Engine,
    digest: Arc<str>,
    manifest: Manifest,
    roles: Roles,
    bytes: usize,
    pub(crate) linked: Linked,
}

/// What instances are made from.
pub(crate) struct Linked {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) lifecycle: lifecycle::GuestIndices,
    pub(crate) routing: Option<routing::GuestIndices>,
    pub(crate) filtering: Option<filtering::GuestIndices>,
    pub(crate) dispatching: Option<dispatching::GuestIndices>,
}

impl Component {
    /// Compiles `bytes`, checks what it imports and exports, and has it describe
    /// itself.
    ///
    /// # Errors
    /// The first check that failed; for imports, the first offenders and their number.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Arc<Self>, LoadError> {
        check_header(bytes)?;
        let compiled = engine.compile(bytes)?;
        let linked = Linked::new(engine, &compiled)?;
        let roles = Roles {
            router: linked.routing.is_some(),
            filter: linked.filtering.is_some(),
            delivery: linked.dispatching.is_some(),
        };
        let manifest = Manifest::check(Instance::describe(&linked)?, roles)?;
        let digest = hex(&Sha256::digest(bytes)).into();
        let engine = engine.clone();
        Ok(Arc::new(Self { engine, digest, manifest, roles, bytes: bytes.len(), linked }))
    }

    /// Hex SHA-256 of the file.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// What it says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it can be bound as.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Size of the file, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The engine that compiled it.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Starts a scratch instance with the binding's configuration and runs the
    /// policy's own check. Nothing of it stays.
    ///
    /// # Errors
    /// The role is not there, or the policy refused or failed.
    pub fn try_out(self: &Arc<Self>, setup: &Setup) -> Result<(), LoadError> {
        let mut instance = Instance::new(self, setup)?;
        instance.check(setup.clock.now())
    }

    /// Checks that the component has the role of `setup`.
    ///
    /// # Errors
    /// `LoadError::Role`.
    pub(crate) fn require(&self, role: Role) -> Result<(), LoadError> {
        if self.roles.has(role) {
            return Ok(());
        }
        Err(LoadError::Role { wanted: role, has: format!("a {}", self.roles) })
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("digest", &self.digest)
            .field("manifest", &self.manifest)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl Linked {
    fn new(engine: &Engine, compiled: &Compiled) -> Result<Self, LoadError> {
        check_imports(engine, compiled)?;
        check_exports(engine, compiled)?;
        let shape = |error: wasmtime::Error| {
            LoadError::Imports(vec![crate::text::sentence(&format!("{error:#}"))])
        };
        let pre = engine.linker().instantiate_pre(compiled).map_err(shape)?;
        let has = |interface: &str| {
            compiled.get_export_index(None, format!("weir:policy/{interface}@0.1.0")).is_some()
        };
        Ok(Self {
            pulse: engine.pulse().clone(),
            lifecycle: lifecycle::GuestIndices::new(&pre).map_err(of_another_contract)?,
            routing: has("routing")
                .then(|| routing::GuestIndices::new(&pre).map_err(of_another_contract))
                .transpose()?,
            filtering: has("filtering")
                .then(|| filtering::GuestIndices::new(&pre).map_err(of_another_contract))
                .transpose()?,
            dispatching: has("dispatching")
                .then(|| dispatching::GuestIndices::new(&pre).map_err(of_another_contract))
                .transpose()?,
            pre,
        })
    }
}

/// Exports have the names that are asked for, and other functions or types.
pub(crate) fn of_another_contract(error: wasmtime::Error) -> LoadError {
    LoadError::Exports(crate::text::sentence(&format!(
        "the component is not of the shape of this broker's policy contract, so it was made for \
         another version: build it again against the `wit` of this one: {error:#}"
    )))
}

fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > limits::COMPONENT_BYTES_MAX {
        let bytes_max = limits::COMPONENT_BYTES_MAX;
        return Err(LoadError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [0, b'a', b's', b'm', ..] => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}

/// Refuses every import the broker does not offer, by name.
fn check_imports(engine: &Engine, compiled: &Compiled) -> Result<(), LoadError> {
    let mut offenders = Vec::new();
    for (name, import) in compiled.component_type().imports(engine.wasm()) {
        let offered = name
            .strip_prefix("weir:policy/")
            .and_then(|rest| rest.split_once('@'))
            .filter(|(_, version)| version.starts_with(TRACK))
            .and_then(|(interface, _)| OFFERED.iter().find(|(offered, _)| *offered == interface));
        let (Some((_, functions)), ComponentItem::ComponentInstance(instance)) =
            (offered, &import.ty)
        else {
            offenders.push(name.to_owned());
            continue;
        };
        for (function, item) in instance.exports(engine.wasm()) {
            let known = !matches!(item.ty, ComponentItem::ComponentFunc(_))
                || functions.contains(&function);
            if !known {
                offenders.push(format!("{name}#{function}"));
            }
        }
    }
    match offenders.is_empty() {
        true => Ok(()),
        false => Err(LoadError::Imports(crate::text::first_of(&offenders))),
    }
}

/// A policy needs `lifecycle` and a role, in this broker's track.
fn check_exports(engine: &Engine, compiled: &Compiled) -> Result<(), LoadError> {
    let component = compiled.component_type();
    let mut found = Vec::new();
    for (name, _) in component.exports(engine.wasm()) {
        let Some((interface, version)) =
            name.strip_prefix("weir:policy/").and_then(|rest| rest.split_once('@'))
        else {
            continue;
        };
        if !version.starts_with(TRACK) {
            let version = crate::text::shown(version);
            return Err(LoadError::Exports(format!(
                "the component is built for weir:policy {version}, this broker offers 0.1: \
                 build it with the SDK of this broker"
            )));
        }
        found.push(interface.to_owned());
    }
    let has = |interface: &str| found.iter().any(|found| found == interface);
    if !has("lifecycle") {
        return Err(LoadError::Exports(
            "the component is no policy: it exports no weir:policy/lifecycle".into(),
        ));
    }
    if !["routing", "filtering", "dispatching"].iter().any(|role| has(role)) {
        return Err(LoadError::Exports(
            "the component has no role: it exports none of routing, filtering, dispatching \
             of weir:policy"
                .into(),
        ));
    }
    Ok(())
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}
