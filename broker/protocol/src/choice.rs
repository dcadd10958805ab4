//! Choices that are read from their text alone. The decoder below would also take a number
//! for a choice's place in the code: `{to: 1}`, meant as an offset, would be `"latest"`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Kind, Level, Order, Start};

macro_rules! by_text {
    ($($choice:ident),+) => {$(
        impl<'de> Deserialize<'de> for $choice {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                // The derived function, which is the type's own.
                Self::deserialize(text.into_deserializer())
            }
        }

        impl Serialize for $choice {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }
    )+};
}

by_text!(Kind, Level, Order);

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StartVisitor)
    }
}

struct StartVisitor;

impl<'de> Visitor<'de> for StartVisitor {
    type Value = Start;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`earliest`, `latest`, {offset: n} or {time_ms: n}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Start, E> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => Err(E::unknown_variant(text, &["earliest", "latest"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Start, A::Error> {
        let known = &["offset", "time_ms"];
        let key: Option<Cow<'de, str>> = map.next_key()?;
        let start = match key.as_deref() {
            Some("offset") => Start::Offset(map.next_value()?),
            Some("time_ms") => Start::TimeMs(map.next_value()?),
            Some(other) => return Err(A::Error::unknown_variant(other, known)),
            None => return Err(A::Error::invalid_length(0, &self)),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(start),
            Some(_) => Err(A::Error::invalid_length(2, &self)),
        }
    }
}
