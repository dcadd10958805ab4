//! `plugin.toml`: what a plugin folder holds. Writing it is the commit point of a
//! deploy: the component goes first, the manifest is renamed over the old one,
//! and its digest says whether the component is whole.

use std::sync::Arc;

use crate::binding::check_name;
use crate::fields::Fields;
use crate::limits::COMPONENT_BYTES_MAX;

/// A checked `plugin.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginManifest {
    pub(crate) version: String,
    /// File name of the component, in the manifest's folder.
    pub(crate) component: String,
    /// Hex SHA-256 of the component.
    pub(crate) sha256: Arc<str>,
    /// Length of the component, bytes.
    pub(crate) size: Option<u64>,
    /// What the author says it can be; the component itself is believed.
    pub(crate) roles: Vec<String>,
}

impl PluginManifest {
    /// Reads the manifest of the folder `name`.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut fields = Fields::parse(text)?;
        let named = fields.required_text("name")?;
        if named != name {
            return Err(format!("`name` is \"{named}\" but the folder is called \"{name}\""));
        }
        let version = fields.required_text("version")?;
        semver::Version::parse(&version)
            .map_err(|error| format!("`version` \"{version}\" is no version: {error}"))?;
        let component = fields.required_text("component")?;
        check_name(&component).map_err(|why| format!("`component`: {why}"))?;
        let sha256 = fields.required_text("sha256")?.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("`sha256` must be 64 hexadecimal digits".to_owned());
        }
        let size = fields.number("size", 1..=COMPONENT_BYTES_MAX as i64)?;
        let roles = fields.texts("roles")?.unwrap_or_default();
        fields.finish()?;
        let size = size.map(|size| size as u64);
        Ok(Self { version, component, sha256: sha256.into(), size, roles })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(extra: &str) -> Result<PluginManifest, String> {
        let text = format!(
            "name='geo'\nversion='1.2.0'\ncomponent='geo-1.2.0.wasm'\nsha256='{DIGEST}'\n{extra}"
        );
        PluginManifest::parse("geo", &text)
    }

    #[test]
    fn a_manifest_is_read_and_its_mistakes_are_named() {
        let manifest = parse("size=20\nroles=['router']").unwrap();
        assert_eq!(manifest.component, "geo-1.2.0.wasm");
        assert_eq!(manifest.size, Some(20));
        assert_eq!(
            parse("rolls=['router']").unwrap_err(),
            "unknown key `rolls`, did you mean `roles`?"
        );
        assert!(parse("size=0").unwrap_err().contains("`size` is 0"));
        let text = format!("name='geo'\nversion='1'\ncomponent='a.wasm'\nsha256='{DIGEST}'");
        assert!(PluginManifest::parse("geo", &text).unwrap_err().contains("is no version"));
        assert!(PluginManifest::parse("goe", &text).unwrap_err().contains("the folder is called"));
        let text = "name='geo'\nversion='1.0.0'\ncomponent='../a.wasm'\nsha256='00'";
        assert!(PluginManifest::parse("geo", text).unwrap_err().contains("is no name"));
    }
}
