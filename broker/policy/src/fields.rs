//! Reading a TOML table by hand: every key is asked for by name, and what was
//! not asked for is refused with the nearest key that would have been. A
//! misspelt `queus = [...]` must not quietly mean "no queues".
//!
//! Used for binding files and plugin manifests. Errors are one sentence for the
//! operator and name the key with its table in front.

use toml::{Table, Value};

/// A table whose keys are taken out one by one.
pub(crate) struct Fields {
    table: Table,
    prefix: &'static str,
    asked: Vec<&'static str>,
}

impl Fields {
    /// Starts on `table`; `prefix` goes before the keys in errors ("limits.").
    pub(crate) fn new(table: Table, prefix: &'static str) -> Self {
        Self { table, prefix, asked: Vec::new() }
    }

    /// Parses a whole file.
    ///
    /// # Errors
    /// One sentence with line and column.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>().map_err(|error| parse_sentence(text, &error))?;
        Ok(Self::new(table, ""))
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn wrong(&self, key: &str, wanted: &str, found: &Value) -> String {
        format!("`{}{key}` must be {wanted}, not {}", self.prefix, kind(found))
    }

    /// A text, absent or not.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a text", &other)),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub(crate) fn required_text(&mut self, key: &'static str) -> Result<String, String> {
        let prefix = self.prefix;
        self.text(key)?.ok_or_else(|| format!("`{prefix}{key}` is missing"))
    }

    /// `true` or `false`, absent or not.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(key, "true or false", &other)),
        }
    }

    /// A list of texts, absent or not.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>, String> {
        let wanted = "a list of texts";
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(key, wanted, &other)),
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::String(text) => texts.push(text),
                other => return Err(self.wrong(key, wanted, &other)),
            }
        }
        Ok(Some(texts))
    }

    /// A whole number in `range`, absent or not.
    ///
    /// # Errors
    /// When it is something else or out of the range.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Integer(number)) if range.contains(&number) => Ok(Some(number)),
            Some(Value::Integer(number)) => Err(format!(
                "`{}{key}` is {number} but must be between {} and {}",
                self.prefix,
                range.start(),
                range.end()
            )),
            Some(other) => Err(self.wrong(key, "a whole number", &other)),
        }
    }

    /// A table, empty when absent.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn table(&mut self, key: &'static str) -> Result<Table, String> {
        match self.take(key) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(other) => Err(self.wrong(key, "a table", &other)),
        }
    }

    /// To be called last: refuses what nobody asked for.
    ///
    /// # Errors
    /// Names the first unknown key and the nearest known one.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let unknown = format!("unknown key `{}{key}`", self.prefix);
                Err(unknown + &did_you_mean(key, &self.asked))
            }
        }
    }
}

/// `, did you mean ...?` or, with nothing near, what there is.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (distance(word, known), *known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + word.len().min(known.len()) / 3 => {
            format!(", did you mean `{known}`?")
        }
        _ => format!(", known here: {}", known.join(", ")),
    }
}

/// Levenshtein distance; the words are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_char) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b_char) in b.iter().enumerate() {
            let change = diagonal + usize::from(a_char != *b_char);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn parse_sentence(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
            format!("line {line}, column {column}: {what}")
        }
        None => what,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let mut fields = Fields::parse("queus = ['a']\n").unwrap();
        assert_eq!(fields.texts("queues").unwrap(), None);
        assert_eq!(fields.text("policy").unwrap(), None);
        let error = fields.finish().unwrap_err();
        assert_eq!(error, "unknown key `queus`, did you mean `queues`?");
    }

    #[test]
    fn an_unknown_key_near_nothing_lists_what_there_is() {
        let mut fields = Fields::parse("colour = 1").unwrap();
        fields.text("policy").unwrap();
        fields.text("role").unwrap();
        assert_eq!(fields.finish().unwrap_err(), "unknown key `colour`, known here: policy, role");
    }

    #[test]
    fn kinds_and_ranges_are_checked() {
        let mut fields = Fields::parse("a = 1\nb = ['x', 2]\nc = 99\nd = 'no'").unwrap();
        assert_eq!(fields.text("a").unwrap_err(), "`a` must be a text, not a whole number");
        assert_eq!(
            fields.texts("b").unwrap_err(),
            "`b` must be a list of texts, not a whole number"
        );
        assert_eq!(
            fields.number("c", 1..=10).unwrap_err(),
            "`c` is 99 but must be between 1 and 10"
        );
        assert_eq!(fields.table("d").unwrap_err(), "`d` must be a table, not a text");
        assert_eq!(fields.required_text("e").unwrap_err(), "`e` is missing");
        fields.finish().unwrap();
    }

    #[test]
    fn a_syntax_error_names_its_place() {
        let error = Fields::parse("a = 1\nb = = 2\n").err().unwrap();
        assert!(error.starts_with("line 2, column 5: "), "{error}");
        assert!(!error.contains('\n'));
    }
}
