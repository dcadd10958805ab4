//! What a component says about itself, checked. Made by [`crate::component`].

use crate::bindings::weir::policy::types::Manifest as Described;
use crate::component::Roles;
use crate::error::LoadError;
use crate::limits::{self, VERSION_BYTES_MAX};
use crate::schema::{self, SchemaError};
use crate::text::shown;

/// Column ids (`wit/types.wit`).
pub(crate) mod column {
    pub(crate) const SUBJECT: u16 = 1;
    pub(crate) const PAYLOAD: u16 = 2;
    pub(crate) const KEY: u16 = 3;
    pub(crate) const HEADERS: u16 = 4;
    pub(crate) const PUBLISHER: u16 = 5;
    pub(crate) const PUBLISHED_AT: u16 = 6;
    pub(crate) const SIZE: u16 = 7;
    pub(crate) const SEQUENCE: u16 = 8;
    pub(crate) const KEY_HASH: u16 = 9;
    pub(crate) const PAYLOAD_HEAD: u16 = 10;
    pub(crate) const HEADER_FIRST: u16 = 256;
    /// Column of `routes.extras`: delay before delivery, ms.
    pub(crate) const DELAY: u16 = 64;
}

const POWERS: [&str; 5] = ["drop", "dead-letter", "rewrite", "retarget", "transient"];
const NAME_BYTES_MAX: usize = 64;
const HEADER_COLUMNS_MAX: usize = 32;
const PAYLOAD_HEAD_BYTES: u32 = 64;
const PAYLOAD_HEAD_BYTES_MAX: u64 = 4_096;

/// A checked manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Stable name, `[a-z0-9-]{1,64}`.
    pub name: String,
    /// Version, semver.
    pub version: semver::Version,
    /// One line for people.
    pub summary: String,
    /// JSON Schema of the configuration, or "" for none.
    pub config_schema: String,
    /// Columns to be sent, rising, header columns included.
    pub columns: Vec<u16>,
    /// Names behind the columns 256, 257, ...
    pub header_columns: Vec<String>,
    /// Columns that alone decide the answer, rising; empty: not to be remembered.
    pub memo_by: Vec<u16>,
    /// Format of the saved state, 0 for none.
    pub state_version: u32,
    /// Oldest format it still reads.
    pub state_reads: u32,
    /// Powers it asks for.
    pub wants: Vec<String>,
    /// Length of column 10, bytes.
    pub payload_head_bytes: u32,
    /// Memory it asks for, bytes; 0 when it does not say.
    pub memory_bytes: u64,
    /// Largest batch it wants, rows; 0 when it does not say.
    pub batch_rows: u32,
}

impl Manifest {
    /// Checks what `describe` answered.
    pub(crate) fn check(described: Described, roles: Roles) -> Result<Self, LoadError> {
        let refuse = |text: String| Err(LoadError::Manifest(text));
        let name = described.name;
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(good) {
            let name = shown(&name);
            return refuse(format!("name {name:?} is not of the form [a-z0-9-]{{1,64}}"));
        }
        if described.version.len() > VERSION_BYTES_MAX {
            let version = shown(&described.version);
            return refuse(format!("version {version:?} is longer than {VERSION_BYTES_MAX} bytes"));
        }
        let version = match semver::Version::parse(&described.version) {
            Ok(version) => version,
            Err(error) => {
                return refuse(format!("version {:?} is not semver: {error}", described.version));
            }
        };
        if !described.config_schema.is_empty()
            && let Err(error) = serde_json::from_str::<serde_json::Value>(&described.config_schema)
        {
            return refuse(format!("config-schema is not JSON: {error}"));
        }
        if described.header_columns.len() > HEADER_COLUMNS_MAX {
            return refuse(format!("more than {HEADER_COLUMNS_MAX} header columns"));
        }
        let mut columns = described.columns;
        let headers = described.header_columns.len() as u16;
        columns.extend((0..headers).map(|n| column::HEADER_FIRST + n));
        columns.sort_unstable();
        columns.dedup();
        check_columns(&columns, headers, roles)?;
        let mut memo_by = described.memo_by;
        memo_by.sort_unstable();
        memo_by.dedup();
        if let Some(id) = memo_by.iter().find(|&id| !columns.contains(id)) {
            return refuse(format!("memo-by names column {id}, which is not in columns"));
        }
        if !memo_by.is_empty() {
            // The broker sends exactly these, so that nothing else can decide.
            columns.clone_from(&memo_by);
        }
        if let Some(want) = described.wants.iter().find(|want| !POWERS.contains(&want.as_str())) {
            let want = shown(want);
            return refuse(format!("wants {want:?}; powers are {}", POWERS.join(", ")));
        }
        // Each once, however often it is asked for.
        let wanted = POWERS.into_iter().filter(|power| described.wants.iter().any(|w| w == power));
        let wants = wanted.map(str::to_owned).collect();
        if described.state_reads > described.state_version {
            return refuse("state-reads is above state-version".into());
        }
        let setting = |id: u16| described.settings.iter().find(|s| s.id == id).map(|s| s.value);
        let head = setting(1).unwrap_or(u64::from(PAYLOAD_HEAD_BYTES));
        if head > PAYLOAD_HEAD_BYTES_MAX {
            return refuse(format!(
                "payload head of {head} bytes, at most {PAYLOAD_HEAD_BYTES_MAX}"
            ));
        }
        Ok(Self {
            name,
            version,
            summary: crate::text::sentence(&described.summary),
            config_schema: described.config_schema,
            columns,
            header_columns: described.header_columns,
            memo_by,
            state_version: described.state_version,
            state_reads: described.state_reads,
            wants,
            payload_head_bytes: head as u32,
            memory_bytes: setting(2).unwrap_or(0),
            batch_rows: setting(3).unwrap_or(0).min(u64::from(limits::BATCH_ROWS)) as u32,
        })
    }

    /// Judges the configuration schema by itself, as it is judged again with each
    /// binding's configuration.
    ///
    /// # Errors
    /// [`LoadError::Manifest`]: no configuration would be taken.
    pub fn check_schema(&self) -> Result<(), LoadError> {
        let empty = serde_json::Value::Object(serde_json::Map::new());
        match schema::validate(&self.config_schema, &empty) {
            // It says what is missing: nothing is wrong with the schema.
            Ok(()) | Err(SchemaError::Mistake(_) | SchemaError::Somewhere) => Ok(()),
            Err(error) => Err(LoadError::Manifest(error.to_string())),
        }
    }

    /// Whether the answer hangs on the subject alone.
    #[must_use]
    pub fn memo_by_subject(&self) -> bool {
        self.memo_by == [column::SUBJECT]
    }
}

fn check_columns(columns: &[u16], headers: u16, roles: Roles) -> Result<(), LoadError> {
    let known = |id: u16| {
        (column::SUBJECT..=column::PAYLOAD_HEAD).contains(&id)
            || (column::HEADER_FIRST..column::HEADER_FIRST + headers).contains(&id)
    };
    if let Some(id) = columns.iter().find(|&&id| !known(id)) {
        return Err(LoadError::Manifest(format!("asks for column {id}, which does not exist")));
    }
    let heavy = [column::PAYLOAD, column::HEADERS, column::PAYLOAD_HEAD];
    if roles.only() == Some(crate::setup::Role::Delivery)
        && let Some(id) = columns.iter().find(|id| heavy.contains(id))
    {
        return Err(LoadError::Manifest(format!(
            "asks for column {id}, which a delivery policy cannot have"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(version: &str, wants: Vec<String>) -> Described {
        Described {
            name: "tested".to_owned(),
            version: version.to_owned(),
            summary: String::new(),
            config_schema: String::new(),
            columns: vec![column::SUBJECT],
            header_columns: Vec::new(),
            memo_by: Vec::new(),
            state_version: 0,
            state_reads: 0,
            wants,
            settings: Vec::new(),
        }
    }

    fn check(version: &str, wants: Vec<String>) -> Result<Manifest, LoadError> {
        Manifest::check(described(version, wants), Roles { router: true, ..Roles::default() })
    }

    #[test]
    fn what_it_says_of_itself_stays_short() {
        let long = "x".repeat(2 << 20);
        let version = check(&format!("1.0.0-{long}"), Vec::new()).expect_err("too long");
        let want = check("1.0.0", vec![long]).expect_err("no such power");
        for error in [version.to_string(), want.to_string()] {
            assert!(error.len() < 512 && error.contains("xxx"), "{} bytes", error.len());
        }
        let wants = vec!["rewrite".to_owned(); 10_000];
        assert_eq!(check("1.0.0", wants).expect("a good one").wants, ["rewrite"]);
    }

    #[test]
    fn a_schema_is_judged_before_there_is_a_configuration() {
        let mut manifest = check("1.0.0", Vec::new()).expect("a good one");
        let mut judge = |schema: &str| {
            manifest.config_schema = schema.to_owned();
            manifest.check_schema()
        };
        for schema in ["", r#"{"type": "object", "required": ["to"]}"#] {
            judge(schema).expect(schema);
        }
        for schema in [r#"{"type": 7}"#, r#"{"$ref": "https://example.org/schema"}"#] {
            let error = judge(schema).expect_err(schema).to_string();
            assert!(error.contains("configuration schema"), "{error}");
        }
    }
}
