//! The one WebAssembly engine of a process: its configuration, the imports that
//! policies may use, and the thread that ticks the epoch. [`crate::component`]
//! compiles with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::Host_;
use crate::error::LoadError;
use crate::host::State;
use crate::limits;
use crate::ticker::{Pulse, Ticker};

/// Compiles and runs components. One per process: types of two engines must not
/// meet. A handle; the ticker thread ends with the last component and handle.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    wasm: wasmtime::Engine,
    linker: Linker<State>,
    compilations: AtomicU64,
    ticker: Ticker,
}

impl Engine {
    /// An engine and its ticker thread.
    ///
    /// # Errors
    /// When this machine cannot run compiled WebAssembly, or has no thread left.
    pub fn new() -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Engine(format!("{error:#}"));
        let wasm = wasmtime::Engine::new(&config()).map_err(failed)?;
        let mut linker = Linker::new(&wasm);
        Host_::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(failed)?;
        let epochs = wasm.clone();
        let ticker = Ticker::start(move || epochs.increment_epoch())
            .map_err(|error| LoadError::Engine(format!("no thread for the ticker: {error}")))?;
        let compilations = AtomicU64::new(0);
        Ok(Self { shared: Arc::new(Shared { wasm, linker, compilations, ticker }) })
    }

    /// Components compiled so far: one per content, never on the path of a message.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.shared.compilations.load(Relaxed)
    }

    pub(crate) fn wasm(&self) -> &wasmtime::Engine {
        &self.shared.wasm
    }

    /// What each call tells the ticker.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        self.shared.ticker.pulse()
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.shared.linker
    }

    pub(crate) fn compile(
        &self,
        bytes: &[u8],
    ) -> Result<wasmtime::component::Component, LoadError> {
        self.shared.compilations.fetch_add(1, Relaxed);
        wasmtime::component::Component::from_binary(&self.shared.wasm, bytes)
            .map_err(|error| LoadError::Compile(crate::text::sentence(&format!("{error:#}"))))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("compilations", &self.compilations()).finish_non_exhaustive()
    }
}

fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(limits::STACK_BYTES);
    // One thread compiles, at leisure: the cores belong to the messages.
    config.parallel_compilation(false);
    config
}
