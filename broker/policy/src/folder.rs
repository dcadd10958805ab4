//! What lies in the plugins and bindings folders, as of one pass.
//!
//! Nothing here decides what is done with it: a [`Scan`] says which plugins and
//! bindings are there, which of them are whole, and why the others are not. The
//! loader calls [`Folders::scan`] once per pass. A file that is younger than its
//! quiet time, or visibly unfinished, is not an error but a reason to look again.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_core::env::{DirEntry, Disk, Now};

use crate::binding::{Binding, Origin, check_name};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::plugin::PluginManifest;
use crate::settle::{FileState, Settled, Settler, Stamp};
use crate::wholeness::{Wholeness, wholeness};

/// Longest binding file or plugin manifest, bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Files looked at per folder; the rest is reported.
const ENTRIES_MAX: usize = 4_096;

/// Where a plugin comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A folder with a `plugin.toml`.
    Folder,
    /// A `.wasm` file alone (development mode).
    Bare,
    /// Shipped with the broker.
    Shipped,
}

/// How a file or plugin stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing<T> {
    /// Usable.
    Whole(T),
    /// Being written, as far as can be told.
    Waiting(String),
    /// Not usable in this form; one sentence.
    Broken(String),
}

/// A plugin in the folder, or one shipped.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub(crate) source: Source,
    /// File name of the component, for people.
    pub(crate) file: String,
    /// From `plugin.toml`.
    pub(crate) version: Option<String>,
    /// Changes whenever a file of the plugin does, even to the same content.
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) standing: Standing<Code>,
}

/// A component's bytes, not compiled.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) digest: Arc<str>,
    pub(crate) bytes: Bytes,
}

/// A binding file.
#[derive(Clone, Debug)]
pub(crate) struct BindingFile {
    pub(crate) stamp: Option<Stamp>,
    pub(crate) standing: Standing<Arc<Binding>>,
}

/// A file that is neither a plugin nor a binding, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct FileProblem {
    /// The file, relative to its folder's parent.
    pub file: String,
    /// One sentence.
    pub reason: String,
}

/// Everything found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) plugins: BTreeMap<String, Plugin>,
    pub(crate) bindings: BTreeMap<String, BindingFile>,
    pub(crate) problems: Vec<FileProblem>,
    /// When to look again without being told, steady ms.
    pub(crate) due_ms: Option<u64>,
}

/// The two folders.
pub(crate) struct Folders {
    disk: Arc<dyn Disk>,
    plugins: PathBuf,
    bindings: PathBuf,
    development: bool,
    settler: Settler,
}

impl Folders {
    /// Whether components without a manifest are loaded.
    pub(crate) fn takes_bare(&self) -> bool {
        self.development
    }

    /// Makes the folders when they are missing.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        plugins: PathBuf,
        bindings: PathBuf,
        development: bool,
    ) -> io::Result<Self> {
        disk.make_folder(&plugins)?;
        disk.make_folder(&bindings)?;
        Ok(Self { disk, plugins, bindings, development, settler: Settler::default() })
    }

    /// The two folders' real paths.
    pub(crate) fn roots(&self) -> Vec<PathBuf> {
        [&self.plugins, &self.bindings].map(|folder| self.real_path(folder)).to_vec()
    }

    /// Every folder whose change matters: the two, what is above them (for the
    /// case that one is exchanged as a whole), and each plugin's own.
    pub(crate) fn watched(&self) -> BTreeSet<PathBuf> {
        let mut watched = BTreeSet::new();
        for root in [&self.plugins, &self.bindings] {
            watched.extend(root.parent().filter(|p| !p.as_os_str().is_empty()).map(Path::to_owned));
            watched.insert(self.real_path(root));
        }
        let entries = self.disk.list(&self.plugins).unwrap_or_default();
        let folders = entries.iter().filter(|entry| entry.is_dir).take(ENTRIES_MAX);
        watched.extend(folders.map(|entry| self.real_path(&entry.path)));
        watched
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        self.disk.locate(path).map_or_else(|_| path.to_owned(), |place| place.real_path)
    }

    /// Looks at both folders. `at_once` reads files however young: at start,
    /// when there is nothing older to keep running meanwhile.
    ///
    /// # Errors
    /// What the disk says when a folder cannot be listed; then nothing can be
    /// said of what is in it, and what runs should go on.
    pub(crate) fn scan(&mut self, now: Now, at_once: bool) -> io::Result<Scan> {
        let plugins = self.disk.list(&self.plugins)?;
        let bindings = self.disk.list(&self.bindings)?;
        let plugins_root = self.real_path(&self.plugins);
        let bindings_root = self.real_path(&self.bindings);
        let mut pass = Pass {
            disk: &*self.disk,
            settler: &mut self.settler,
            now,
            at_once,
            root: plugins_root,
            scan: Scan::default(),
            seen: HashSet::new(),
        };
        pass.note_excess("plugins", plugins.len());
        pass.note_excess("bindings", bindings.len());
        for entry in plugins.iter().take(ENTRIES_MAX) {
            pass.plugin_entry(entry, self.development);
        }
        pass.root = bindings_root;
        for entry in bindings.iter().take(ENTRIES_MAX) {
            pass.binding_entry(entry);
        }
        let Pass { scan, seen, .. } = pass;
        self.settler.end_pass(&seen);
        Ok(scan)
    }
}

/// One look at both folders.
struct Pass<'a> {
    disk: &'a dyn Disk,
    settler: &'a mut Settler,
    now: Now,
    at_once: bool,
    root: PathBuf,
    scan: Scan,
    seen: HashSet<PathBuf>,
}

impl Pass<'_> {
    fn plugin_entry(&mut self, entry: &DirEntry, development: bool) {
        let Some(file) = visible_name(&entry.path) else { return };
        if entry.is_dir {
            self.plugin_folder(file, &entry.path);
            return;
        }
        let Some(name) = file.strip_suffix(".wasm") else { return };
        if let Err(why) = check_name(name) {
            self.problem("plugins", file, why);
        } else if !development {
            let why = format!(
                "a bare component is loaded in development mode only; put it in \
                 plugins/{name}/ with a plugin.toml"
            );
            self.problem("plugins", file, why);
        } else if self.scan.plugins.contains_key(name) {
            let why = format!("plugins/{name}/plugin.toml is used instead; remove one of the two");
            self.problem("plugins", file, why);
        } else {
            self.bare_component(name, file, &entry.path);
        }
    }

    fn bare_component(&mut self, name: &str, file: &str, path: &Path) {
        let mut stamps = Vec::new();
        let standing = match self.look(path, COMPONENT_BYTES_MAX as u64, self.at_once) {
            FileState::Gone => return,
            FileState::Restless { .. } => Standing::Waiting("the file is being written".to_owned()),
            FileState::Refused { why, stamp } => {
                stamps.extend(stamp);
                Standing::Broken(why)
            }
            FileState::Settled(settled) => {
                stamps.push(settled.stamp.clone());
                self.whole_component(settled)
            }
        };
        let file = file.to_owned();
        let plugin = Plugin { source: Source::Bare, file, version: None, stamps, standing };
        self.scan.plugins.insert(name.to_owned(), plugin);
    }

    fn whole_component(&mut self, settled: Settled) -> Standing<Code> {
        match wholeness(&settled.bytes) {
            Wholeness::Whole => {
                Standing::Whole(Code { digest: settled.digest, bytes: settled.bytes })
            }
            Wholeness::Foreign(why) => Standing::Broken(why.to_owned()),
            Wholeness::CutOff { len, needs } => self.unfinished(
                settled.retry_ms(self.now),
                format!(
                    "the file ends after {len} bytes but needs at least {needs}; copy it again"
                ),
            ),
        }
    }

    fn plugin_folder(&mut self, name: &str, folder: &Path) {
        let manifest_path = folder.join("plugin.toml");
        let mut plugin = Plugin {
            source: Source::Folder,
            file: format!("{name}/plugin.toml"),
            version: None,
            stamps: Vec::new(),
            standing: Standing::Broken(String::new()),
        };
        plugin.standing = match self.look(&manifest_path, TEXT_BYTES_MAX, self.at_once) {
            FileState::Gone => return self.folder_without_manifest(name, folder),
            FileState::Restless { .. } => {
                Standing::Waiting("plugin.toml is being written".to_owned())
            }
            FileState::Refused { why, stamp } => {
                plugin.stamps.extend(stamp);
                Standing::Broken(format!("plugin.toml: {why}"))
            }
            FileState::Settled(settled) => {
                plugin.stamps.push(settled.stamp.clone());
                self.declared_component(name, folder, &settled, &mut plugin)
            }
        };
        if let Err(why) = check_name(name) {
            return self.problem("plugins", name, why);
        }
        self.scan.plugins.insert(name.to_owned(), plugin);
    }

    fn declared_component(
        &mut self,
        name: &str,
        folder: &Path,
        settled: &Settled,
        plugin: &mut Plugin,
    ) -> Standing<Code> {
        let text = match std::str::from_utf8(&settled.bytes) {
            Ok(text) => text,
            Err(_) => return Standing::Broken("plugin.toml is not UTF-8 text".to_owned()),
        };
        let manifest = match PluginManifest::parse(name, text) {
            Ok(manifest) => manifest,
            Err(why) => return Standing::Broken(format!("plugin.toml: {why}")),
        };
        plugin.file = format!("{name}/{}", manifest.component);
        plugin.version = Some(manifest.version.clone());
        let path = folder.join(&manifest.component);
        // The digest tells whether it is whole, so there is nothing to wait for.
        let component = match self.look(&path, COMPONENT_BYTES_MAX as u64, true) {
            FileState::Settled(component) => component,
            FileState::Restless { .. } => {
                return Standing::Waiting("the component is being written".to_owned());
            }
            FileState::Refused { why, stamp } => {
                plugin.stamps.extend(stamp);
                return Standing::Broken(format!("{}: {why}", manifest.component));
            }
            FileState::Gone => {
                let why = format!("plugin.toml names {}, which is not there", manifest.component);
                return self.unfinished(settled.retry_ms(self.now), why);
            }
        };
        plugin.stamps.push(component.stamp.clone());
        let size_fits = manifest.size.is_none_or(|size| size == component.bytes.len() as u64);
        if component.digest == manifest.sha256 && size_fits {
            return Standing::Whole(Code { digest: component.digest, bytes: component.bytes });
        }
        let why = format!(
            "{} has {} bytes with sha256 {}..., plugin.toml promises {}{}...",
            manifest.component,
            component.bytes.len(),
            &component.digest[..12],
            manifest.size.map_or_else(String::new, |size| format!("{size} bytes with sha256 ")),
            &manifest.sha256[..12],
        );
        let retry_ms = settled.retry_ms(self.now).max(component.retry_ms(self.now));
        self.unfinished(retry_ms, why)
    }

    fn folder_without_manifest(&mut self, name: &str, folder: &Path) {
        let entries = self.disk.list(folder).unwrap_or_default();
        let is_wasm = |entry: &DirEntry| entry.path.extension().is_some_and(|end| end == "wasm");
        if entries.iter().any(is_wasm) {
            self.problem("plugins", name, "the folder holds no plugin.toml".to_owned());
        }
    }

    fn binding_entry(&mut self, entry: &DirEntry) {
        let Some(file) = visible_name(&entry.path) else { return };
        let Some(name) = file.strip_suffix(".toml") else { return };
        if let Err(why) = check_name(name) {
            return self.problem("bindings", file, why);
        }
        let mut stamp = None;
        let standing = match self.look(&entry.path, TEXT_BYTES_MAX, self.at_once) {
            FileState::Gone => return,
            FileState::Restless { .. } => Standing::Waiting("the file is being written".to_owned()),
            FileState::Refused { why, stamp: refused } => {
                stamp = refused;
                Standing::Broken(why)
            }
            FileState::Settled(settled) => {
                stamp = Some(settled.stamp);
                let text = std::str::from_utf8(&settled.bytes)
                    .map_err(|_| "the file is not UTF-8 text".to_owned());
                match text.and_then(|text| Binding::parse(name, Origin::File, text)) {
                    Ok(binding) => Standing::Whole(Arc::new(binding)),
                    Err(why) => Standing::Broken(why),
                }
            }
        };
        self.scan.bindings.insert(name.to_owned(), BindingFile { stamp, standing });
    }

    fn look(&mut self, path: &Path, bytes_max: u64, at_once: bool) -> FileState {
        self.seen.insert(path.to_owned());
        let state = self.settler.look(self.disk, self.now, &self.root, path, bytes_max, at_once);
        if let FileState::Restless { due_ms } = state {
            self.look_again(due_ms);
        }
        state
    }

    fn look_again(&mut self, due_ms: u64) {
        let sooner = self.scan.due_ms.map_or(due_ms, |other| other.min(due_ms));
        self.scan.due_ms = Some(sooner);
    }

    /// Waits while there is hope, then says what is wrong.
    fn unfinished<T>(&mut self, retry_ms: Option<u64>, why: String) -> Standing<T> {
        match retry_ms {
            Some(due_ms) => {
                self.look_again(due_ms);
                Standing::Waiting(why)
            }
            None => Standing::Broken(why),
        }
    }

    fn problem(&mut self, folder: &str, file: &str, reason: String) {
        self.scan.problems.push(FileProblem { file: format!("{folder}/{file}"), reason });
    }

    fn note_excess(&mut self, folder: &str, entries: usize) {
        if entries > ENTRIES_MAX {
            let reason = format!("{entries} entries, only the first {ENTRIES_MAX} are looked at");
            self.scan.problems.push(FileProblem { file: folder.to_owned(), reason });
        }
    }
}

/// The file's name, unless it is hidden: editors, copy tools and mounted
/// configuration maps keep their unfinished files under such names.
fn visible_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.starts_with('.'))
}
