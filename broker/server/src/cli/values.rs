//! Values on the command line: durations, sizes, places in a stream, headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_client::{Level, Order, Start};

use super::time;

/// `250ms`, `10s`, `5m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a number and ms, s, m, h or d, e.g. 250ms or 10s".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write e.g. 250ms or 10s".to_owned())?;
    number.checked_mul(ms_per_unit).map(Duration::from_millis).ok_or("too long".into())
}

/// Whole milliseconds, for what travels as 32 bits.
pub(crate) fn duration_ms(text: &str) -> Result<u32, String> {
    u32::try_from(duration(text)?.as_millis()).map_err(|_| "at most 49 days".into())
}

/// `1000`, `64KiB`, `10MiB`, `2GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        _ => return Err("write a number of bytes, or e.g. 64KiB, 10MiB, 2GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write e.g. 64KiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or("too much".into())
}

/// `earliest`, `latest`, an offset, `time:…`, `ago:…`.
pub(crate) fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Some(moment) = text.strip_prefix("time:") {
        let ms = moment.parse().ok().or_else(|| time::parse(moment));
        return ms.map(Start::TimeMs).ok_or_else(|| {
            "write milliseconds since 1970 or e.g. time:2026-11-21T12:00:00Z".into()
        });
    }
    if let Some(ago) = text.strip_prefix("ago:") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = now.saturating_sub(duration(ago)?).as_millis();
        return Ok(Start::TimeMs(u64::try_from(ms).unwrap_or(u64::MAX)));
    }
    text.parse().map(Start::Offset).map_err(|_| {
        "write earliest, latest, an offset, time:2026-11-21T12:00:00Z or ago:10m".into()
    })
}

/// `name=value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".into()),
    }
}

/// `memory`, `os`, `disk`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LevelArg {
    /// In the broker's memory
    Memory,
    /// Written to the operating system
    Os,
    /// Synced to disk
    Disk,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Memory => Self::Memory,
            LevelArg::Os => Self::Os,
            LevelArg::Disk => Self::Disk,
        }
    }
}

/// `none`, `key`, `all`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum OrderArg {
    /// None
    None,
    /// Messages of one key, one after the other
    Key,
    /// All messages, one after the other
    All,
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::None => Self::None,
            OrderArg::Key => Self::Key,
            OrderArg::All => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "10", "s", "10 s", "-1s", "1.5s", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration_ms("50d").is_err());
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("64KiB"), Ok(65_536));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        for wrong in ["", "KiB", "1XiB", "99999999999999999999", "99999999999999T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_in_a_stream() {
        assert_eq!(start("earliest"), Ok(Start::Earliest));
        assert_eq!(start("17"), Ok(Start::Offset(17)));
        assert_eq!(start("time:1700000000000"), Ok(Start::TimeMs(1_700_000_000_000)));
        assert_eq!(start("time:1970-01-02T00:00:00Z"), Ok(Start::TimeMs(86_400_000)));
        assert!(matches!(start("ago:10m"), Ok(Start::TimeMs(_))));
        for wrong in ["", "now", "time:", "time:noon", "ago:", "-1"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
