//! Makes a component of a core module: finds out which roles it exports, names
//! the world it belongs to, and wraps it. In this process, no tool needed.

use crate::wit::whole_wit;
use std::fmt::Display;
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// Why a module cannot become a policy.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// It exports none of the interfaces that make a policy.
    #[error("exports no role: use one of the SDK's macros router!, filter!, delivery!, gate!")]
    NoRole,
    /// It does not fit the interfaces, or imports what no policy can have.
    #[error("does not fit the policy interfaces: {0}")]
    Misfit(String),
}

/// How the functions of a policy interface start among a module's exports.
const EXPORT_PREFIX: &str = "weir:policy/";

/// Wraps `module`, a core module compiled against the SDK, into a component.
/// Bytes that are a component already are returned as they are.
///
/// # Errors
/// See [`ComponentError`].
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    componentize_with_imports(module, "")
}

/// Like [`componentize`], in a world with more imports than a policy may have:
/// for tests of what the broker does with such a component. `imports` is WIT, for
/// example `import x: interface { f: func(); }`.
///
/// # Errors
/// See [`ComponentError`].
pub fn componentize_with_imports(module: &[u8], imports: &str) -> Result<Vec<u8>, ComponentError> {
    if Parser::is_component(module) {
        return Ok(module.to_vec());
    }
    let exported = exported_interfaces(module)?;
    if exported.iter().all(|interface| interface.contains("/lifecycle@")) {
        return Err(ComponentError::NoRole);
    }
    let (resolve, world) = world_of(&exported, imports)?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .map_err(misfit)?;
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(true).module(&module).map_err(misfit)?;
    encoder.encode().map_err(misfit)
}

fn misfit(error: impl Display) -> ComponentError {
    // The alternate form names the whole chain of causes.
    ComponentError::Misfit(format!("{error:#}"))
}

/// Names of the policy interfaces that a core module exports, in order.
fn exported_interfaces(module: &[u8]) -> Result<Vec<String>, ComponentError> {
    let mut interfaces: Vec<String> = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(exports) = payload.map_err(misfit)? {
            for export in exports {
                let name = export.map_err(misfit)?.name;
                let Some((interface, _)) = name.split_once('#') else { continue };
                if interface.starts_with(EXPORT_PREFIX) {
                    interfaces.push(interface.to_owned());
                }
            }
        }
    }
    interfaces.sort_unstable();
    interfaces.dedup();
    Ok(interfaces)
}

/// A world that exports exactly `interfaces` and imports what every policy may.
fn world_of(interfaces: &[String], imports: &str) -> Result<(Resolve, WorldId), ComponentError> {
    let mut resolve = Resolve::default();
    resolve.push_str("policy.wit", &whole_wit()).map_err(misfit)?;
    let exports: String = interfaces.iter().map(|name| format!("    export {name};\n")).collect();
    let world = format!(
        "package weir:built;\nworld policy {{\n    include weir:policy/base@0.1.0;\n\
         {imports}\n{exports}}}\n"
    );
    let package = resolve.push_str("built.wit", &world).map_err(misfit)?;
    let world = resolve.select_world(&[package], Some("policy")).map_err(misfit)?;
    Ok((resolve, world))
}
