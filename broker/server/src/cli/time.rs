//! Moments as people write them: UTC, RFC 3339. Nothing else of calendars.

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_from(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Days of a month, 1 to 12.
fn days_in(year: i64, month: i64) -> i64 {
    let next = if month == 12 { days_from(year + 1, 1, 1) } else { days_from(year, month + 1, 1) };
    next - days_from(year, month, 1)
}

/// `2026-11-21T12:00:00.250Z`.
pub(crate) fn text(ms: u64) -> String {
    let (days, ms_of_day) = ((ms / 86_400_000) as i64, ms % 86_400_000);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, rest) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
}

/// Milliseconds since 1970 of `2026-11-21T12:00:00Z`; seconds, their fraction and
/// the time of day may be left out.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let (date, clock) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<u32>().ok().map(i64::from));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<u32>().ok().map(i64::from));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let within = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !within || hour > 23 || minute > 59 || second > 60 || year > 9999 {
        return None;
    }
    let digits: String = fraction.chars().chain("00".chars()).take(3).collect();
    let ms: i64 = digits.parse().ok()?;
    let seconds = days_from(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds * 1000 + ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_and_write_alike() {
        for (written, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:30:15.250Z", 951_827_415_250),
            ("2026-11-21T12:37:13.000Z", 1_795_264_633_000),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            assert_eq!(text(ms), written);
            assert_eq!(parse(written), Some(ms));
        }
        for ms in (0..4_000_000_000_000).step_by(86_399_999 * 37) {
            assert_eq!(parse(&text(ms)), Some(ms));
        }
    }

    #[test]
    fn short_forms_and_nonsense() {
        assert_eq!(parse("1970-01-02"), Some(86_400_000));
        assert_eq!(parse("1970-01-01 00:01"), Some(60_000));
        assert_eq!(parse("1970-01-01T00:00:00.5Z"), Some(500));
        for wrong in ["", "noon", "1970-13-01", "1970-01-01T25:00:00Z", "1969-12-31", "1-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_that_a_month_does_not_have_are_none() {
        for wrong in ["2026-02-31", "2026-02-29", "2100-02-29", "2026-04-31", "2026-12-32"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        for right in ["2026-01-31", "2024-02-29", "2000-02-29", "2026-04-30", "2026-12-31"] {
            let ms = parse(right).expect("there is such a day");
            assert_eq!(text(ms), format!("{right}T00:00:00.000Z"));
        }
    }
}
