//! What is logged: table `[log]` and `--log`. A word that names nothing would silence
//! everything, so it is refused with the nearest one.

use anyhow::bail;

use super::nearest::nearest;

/// Levels, as they are written.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Our own parts, as `PART=LEVEL` names them.
const PARTS: [&str; 6] =
    ["weir_server", "weir_policy", "weir_journal", "weir_core", "weir_protocol", "weir_shipped"];
/// What policies log themselves.
const POLICIES: &str = "weir::policy";

/// Checks a filter: levels, and parts with levels, with commas between them.
///
/// # Errors
/// One sentence with what to write instead.
pub(super) fn check(filter: &str) -> anyhow::Result<()> {
    for directive in filter.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        // Of spans and fields the log itself knows more.
        if directive.contains('[') {
            continue;
        }
        match directive.split_once('=') {
            Some((part, level)) => {
                known_part(filter, part)?;
                known_level(filter, level)?;
            }
            None if is_path(directive) => known_part(filter, directive)?,
            None => known_level(filter, directive)?,
        }
    }
    Ok(())
}

fn is_path(word: &str) -> bool {
    word.contains("::") || word.starts_with("weir")
}

fn known_level(filter: &str, word: &str) -> anyhow::Result<()> {
    if LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let nearest = nearest(&word.to_ascii_lowercase(), &LEVELS);
    bail!(
        "log.level = \"{filter}\": `{word}` is no level; did you mean `{nearest}`? Write off, \
         error, warn, info, debug or trace, or e.g. info,weir_policy=debug"
    )
}

/// Parts of others are not known to us.
fn known_part(filter: &str, path: &str) -> anyhow::Result<()> {
    let part = path.split("::").next().unwrap_or(path);
    if path == POLICIES || !part.starts_with("weir") || PARTS.contains(&part) {
        return Ok(());
    }
    let nearest = nearest(part, &PARTS);
    bail!("log.level = \"{filter}\": the broker has no part `{part}`; did you mean `{nearest}`?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_say_something_are_taken() {
        for filter in [
            "",
            "off",
            "WARN",
            "info,weir_policy=debug",
            "weir_server::session=trace, warn",
            "weir_journal",
            "info,weir::policy=debug",
            "wasmtime=error",
            "weir_server[connection]=debug",
        ] {
            assert!(check(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_slip_is_refused_with_the_nearest_word() {
        for (filter, word, nearest) in [
            ("wran", "`wran` is no level", "`warn`"),
            ("inof", "`inof` is no level", "`info`"),
            ("verbose", "`verbose` is no level", "did you mean"),
            ("lowd", "`lowd` is no level", "did you mean"),
            ("debgu", "`debgu` is no level", "`debug`"),
            ("weir_policy=debgu", "`debgu` is no level", "`debug`"),
            ("weir_polcy=debug", "no part `weir_polcy`", "`weir_policy`"),
            ("info,weir", "no part `weir`", "did you mean"),
            ("info,weir::polcy=debug", "no part `weir`", "did you mean"),
        ] {
            let error = check(filter).expect_err("a slip").to_string();
            assert!(error.contains(word) && error.contains(nearest), "{error}");
        }
    }
}
