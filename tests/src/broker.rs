//! A broker in this process, on a port of its own, with folders of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_client::{BindingStatus, Client, ConnectOptions};
use weir_core::store::Store;
use weir_policy::PolicyHost;
use weir_policy::status::BindingState;
use weir_server::config::{Config, LogFormat, StoreConfig};
use weir_server::server::Server;

use crate::wait::{soon, until};

/// A running broker. Dropped without [`TestBroker::stop`] it ends with the test.
pub struct TestBroker {
    server: Server,
    /// Removed with the last of what uses it.
    folder: TempDir,
    config: Config,
}

impl TestBroker {
    /// Starts a broker in development mode that watches its folders.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a broker with bindings that are there before it is: name and TOML.
    ///
    /// # Panics
    /// When it does not start, or a binding is not in force.
    pub async fn bound(bindings: &[(&str, &str)]) -> Self {
        let broker = Self::start_with(|config| {
            for (name, toml) in bindings {
                put(&config.bindings, &format!("{name}.toml"), toml.as_bytes());
            }
        })
        .await;
        for (name, _) in bindings {
            let status = broker.policies().status(Some(name));
            let is_active =
                status.first().is_some_and(|status| status.state == BindingState::Active);
            assert!(is_active, "binding {name}: {status:?}");
        }
        broker
    }

    /// Starts a broker whose configuration `prepare` has changed; the folders it
    /// names exist already.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(prepare: impl FnOnce(&mut Config)) -> Self {
        let (folder, config) = prepared(prepare);
        let server = Server::start(config.clone()).await.expect("the broker starts");
        Self { server, folder, config }
    }

    /// Stops it as a signal would, and starts another one over the same folders and at
    /// the same address.
    ///
    /// # Panics
    /// When it does not end, or does not start again.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// As [`TestBroker::restart`]; `change` is called with the configuration while no
    /// broker runs.
    ///
    /// # Panics
    /// When it does not end, or does not start again.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { server, folder, mut config } = self;
        config.listen = server.address();
        soon("the broker stops", server.stop()).await;
        change(&mut config);
        let server = Server::start(config.clone()).await.expect("the broker starts again");
        Self { server, folder, config }
    }

    /// As [`TestBroker::start_with`], over stores that `stores` makes: one for each
    /// shard.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_over(
        prepare: impl FnOnce(&mut Config),
        stores: impl FnOnce(&Config) -> Vec<Box<dyn Store>>,
    ) -> Self {
        let (folder, config) = prepared(prepare);
        let stores = stores(&config);
        let started = Server::start_over(config.clone(), stores).await;
        let server = started.expect("the broker starts");
        Self { server, folder, config }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A client of its own connection that does not come back when it is lost.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn client(&self) -> Client {
        self.client_with(ConnectOptions::default().without_reconnect()).await
    }

    /// A client with these options.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn client_with(&self, options: ConnectOptions) -> Client {
        let address = self.address().to_string();
        soon("a connection", Client::connect_with(&address, options)).await.expect("connects")
    }

    /// Its policies, as the server has them.
    #[must_use]
    pub fn policies(&self) -> &PolicyHost {
        &self.server.broker().policies
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Folder of policies.
    #[must_use]
    pub fn plugins(&self) -> &Path {
        &self.config.plugins
    }

    /// Folder of bindings.
    #[must_use]
    pub fn bindings(&self) -> &Path {
        &self.config.bindings
    }

    /// A folder that the broker does not know of, for the test's own use.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Puts `bindings/<name>.toml` in place, at once as a whole.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn put_binding(&self, name: &str, toml: &str) {
        put(&self.config.bindings, &format!("{name}.toml"), toml.as_bytes());
    }

    /// Puts `plugins/<name>.wasm` in place, at once as a whole.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn put_plugin(&self, name: &str, component: &[u8]) {
        put(&self.config.plugins, &format!("{name}.wasm"), component);
    }

    /// What the wire tells of one binding; `None` when there is none.
    pub async fn status(&self, client: &Client, binding: &str) -> Option<BindingStatus> {
        client.policy_status(Some(binding)).await.ok()?.into_iter().next()
    }

    /// Waits until a binding is active in a generation above `after`, and tells its
    /// status. The first generation of a binding is above 0.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn active_after(&self, client: &Client, binding: &str, after: u64) -> BindingStatus {
        let mut found = None;
        until(&format!("binding {binding} is active above generation {after}"), async || {
            found = self.status(client, binding).await;
            found
                .as_ref()
                .is_some_and(|status| status.state == "active" && status.generation > after)
        })
        .await;
        found.expect("it was found")
    }

    /// Stops it as a signal would, and waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(self) {
        soon("the broker stops", self.server.stop()).await;
    }
}

/// Folders of their own, and a configuration that names them.
fn prepared(prepare: impl FnOnce(&mut Config)) -> (TempDir, Config) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        plugins: data.join("plugins"),
        bindings: data.join("bindings"),
        data,
        shards: 2,
        development: true,
        watch: true,
        connections_max: 10_000,
        memory_bytes_max: 1 << 30,
        // Small, and whatever else is on the disk is not looked at.
        store: StoreConfig {
            journal_file_bytes: 4 << 20,
            free_bytes_min: 0,
            free_percent_min: 0,
            ..StoreConfig::default()
        },
        log_level: "warn".into(),
        log_format: LogFormat::Text,
    };
    for made in [&config.plugins, &config.bindings] {
        std::fs::create_dir_all(made).expect("a folder can be made");
    }
    prepare(&mut config);
    (folder, config)
}

/// Milliseconds since the epoch, as the broker tells times.
#[must_use]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500,000,000")
}

/// Writes beside and renames, so that nobody sees half a file.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let aside = folder.join(format!(".{name}.new"));
    std::fs::write(&aside, bytes).expect("the file can be written");
    std::fs::rename(&aside, folder.join(name)).expect("the file can be renamed");
}
