//! A router that asks for an import no broker has. The broker must refuse it and
//! name the import.

use weir_plugin_sdk::prelude::*;

/// Asks for a secret.
#[derive(Debug)]
pub struct WrongImport;

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "an import that the SDK does not have")]
fn reveal() -> u32 {
    #[link(wasm_import_module = "secret")]
    unsafe extern "C" {
        safe fn reveal() -> u32;
    }
    reveal()
}

#[cfg(not(target_arch = "wasm32"))]
fn reveal() -> u32 {
    0
}

impl Policy for WrongImport {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        manifest!("asks for an import no broker has").columns(&[Column::Subject])
    }

    fn new(_: NoConfig, _: &Context) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Router for WrongImport {
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) {
        if reveal() != 7 {
            to.send(message.subject());
        }
    }
}

weir_plugin_sdk::router!(WrongImport);
