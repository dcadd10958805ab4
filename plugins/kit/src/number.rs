//! Numbers as they stand in text, compared without surprises: integers of 64 bits
//! exactly, signed or not, everything else as floating point.

use std::cmp::Ordering;

/// A number read from text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Exact.
    Integer(i64),
    /// Exact too, above what [`Number::Integer`] holds: as random ids are.
    Large(u64),
    /// Everything with a fraction or an exponent, or beyond 64 bits.
    Float(f64),
}

/// Powers of ten that a double holds exactly.
const TENS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

impl Number {
    /// Reads a decimal number; `None` when the bytes are something else.
    #[must_use]
    pub fn of(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            _ => (false, text),
        };
        if digits.is_empty() || digits.len() > 15 {
            return Self::slowly(text);
        }
        // Up to 15 digits: the mantissa and the power of ten are exact, so one
        // division rounds correctly.
        let mut mantissa: i64 = 0;
        let mut point = None;
        for (at, &byte) in digits.iter().enumerate() {
            match byte {
                b'0'..=b'9' => mantissa = mantissa * 10 + i64::from(byte - b'0'),
                b'.' if point.is_none() && at > 0 => point = Some(at),
                _ => return Self::slowly(text),
            }
        }
        let mantissa = if negative { -mantissa } else { mantissa };
        match point {
            None => Some(Self::Integer(mantissa)),
            Some(at) if at + 1 == digits.len() => None,
            Some(at) => Some(Self::Float(mantissa as f64 / TENS[digits.len() - at - 1])),
        }
    }

    fn slowly(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let first = text.strip_prefix('-').unwrap_or(text).as_bytes().first()?;
        // The library also reads "inf" and "nan", which no payload means.
        if !first.is_ascii_digit() {
            return None;
        }
        // And a point with nothing behind it.
        let fraction = text.split_once('.').map(|(_, fraction)| fraction.as_bytes());
        if fraction.is_some_and(|digits| !digits.first().is_some_and(u8::is_ascii_digit)) {
            return None;
        }
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Self::Integer(integer));
        }
        if let Ok(large) = text.parse::<u64>() {
            return Some(Self::Large(large));
        }
        text.parse::<f64>().ok().map(Self::Float)
    }

    /// The nearest floating-point value.
    #[must_use]
    pub fn as_float(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Large(large) => large as f64,
            Self::Float(float) => float,
        }
    }

    /// Less, equal or greater.
    #[must_use]
    pub fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => Some(one.cmp(&two)),
            (Self::Large(one), Self::Large(two)) => Some(one.cmp(&two)),
            (Self::Integer(_), Self::Large(_)) => Some(Ordering::Less),
            (Self::Large(_), Self::Integer(_)) => Some(Ordering::Greater),
            _ => self.as_float().partial_cmp(&other.as_float()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_the_library() {
        for text in [
            "0",
            "-0",
            "7",
            "-12",
            "3.5",
            "-0.25",
            "100000000000000",
            "0.1",
            "1e3",
            "-2.5E-3",
            "9007199254740993",
            "123456789012345678901234567890",
            "0.30000000000000004",
            "12.0",
        ] {
            let number = Number::of(text.as_bytes()).expect(text);
            assert_eq!(number.as_float(), text.parse::<f64>().expect(text), "{text}");
        }
        for text in ["", "-", ".5", "5.", "1.2.3", "inf", "nan", "abc", "1x", "--1"] {
            assert_eq!(Number::of(text.as_bytes()), None, "{text}");
        }
        for text in ["1234567890123456.", "1.e5", "-1.E5"] {
            assert_eq!(Number::of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn large_integers_compare_exactly() {
        let one = Number::of(b"9007199254740992").expect("number");
        let two = Number::of(b"9007199254740993").expect("number");
        assert_eq!(one.compare(two), Some(Ordering::Less));
        assert_eq!(one.compare(Number::Float(9_007_199_254_740_992.0)), Some(Ordering::Equal));
    }

    #[test]
    fn integers_without_a_sign_compare_exactly() {
        let rising = ["-1", "9223372036854775807", "9223372036854775808", "18446744073709551615"];
        let numbers = rising.map(|text| Number::of(text.as_bytes()).expect(text));
        for (at, one) in numbers.iter().enumerate() {
            for (other, two) in numbers.iter().enumerate() {
                assert_eq!(one.compare(*two), Some(at.cmp(&other)), "{one:?} {two:?}");
            }
        }
        let beyond = Number::of(b"18446744073709551616").expect("number");
        assert_eq!(beyond, Number::Float(u64::MAX as f64));
    }
}
