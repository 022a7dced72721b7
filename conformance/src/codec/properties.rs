//! The content header of class basic and its fourteen properties.

use super::frame::{Frame, HEADER};
use super::method::Argument;
use super::reader::{Malformed, Reader};
use super::spec::Kind;
use super::table::Table;

/// In flag order: the first has bit 15.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::ShortString),
    ("content_encoding", Kind::ShortString),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Octet),
    ("priority", Kind::Octet),
    ("correlation_id", Kind::ShortString),
    ("reply_to", Kind::ShortString),
    ("expiration", Kind::ShortString),
    ("message_id", Kind::ShortString),
    ("timestamp", Kind::LongLong),
    ("type", Kind::ShortString),
    ("user_id", Kind::ShortString),
    ("app_id", Kind::ShortString),
    ("cluster_id", Kind::ShortString),
];

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Properties([Option<Argument>; 14]);

impl Properties {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, property: &str, argument: impl Into<Argument>) -> Self {
        let index = index(property);
        let argument = argument.into();
        assert!(argument.fits(PROPERTIES[index].1), "property {property}: wrong type");
        self.0[index] = Some(argument);
        self
    }

    pub(crate) fn headers(self, headers: impl Into<Table>) -> Self {
        self.with("headers", headers.into())
    }

    pub(crate) fn persistent(self) -> Self {
        self.with("delivery_mode", 2_u64)
    }

    pub(crate) fn get_headers(&self) -> Option<&Table> {
        match &self.0[index("headers")] {
            Some(Argument::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn text(&self, property: &str) -> Option<String> {
        match &self.0[index(property)] {
            Some(Argument::Text(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    pub(crate) fn number(&self, property: &str) -> Option<u64> {
        match &self.0[index(property)] {
            Some(Argument::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The flags and the values, without the fields in front of them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut flags = 0_u16;
        let mut values = Vec::new();
        for (index, argument) in self.0.iter().enumerate() {
            if let Some(argument) = argument {
                flags |= 1 << (15 - index);
                argument.encode_into(PROPERTIES[index].1, &mut values);
            }
        }
        [flags.to_be_bytes().to_vec(), values].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u16()?;
        let mut properties = Self::new();
        for (index, (_, kind)) in PROPERTIES.iter().enumerate() {
            if flags >> (15 - index) & 1 == 1 {
                properties.0[index] = Some(Argument::decode(*kind, &mut reader)?);
            }
        }
        if !reader.is_empty() {
            return Err(Malformed(format!("{} bytes after the properties", reader.remaining())));
        }
        Ok(properties)
    }
}

/// The header frame of a content of class `class` with properties in their encoded form.
pub(crate) fn header_frame(channel: u16, class: u16, size: u64, properties: &[u8]) -> Frame {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend([0, 0]);
    payload.extend(size.to_be_bytes());
    payload.extend(properties);
    Frame::new(HEADER, channel, payload)
}

fn index(property: &str) -> usize {
    PROPERTIES
        .iter()
        .position(|(name, _)| *name == property)
        .unwrap_or_else(|| panic!("class basic has no property {property}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_count_from_the_highest_bit() {
        let properties = Properties::new().with("content_type", "a").with("cluster_id", "b");
        assert_eq!(properties.encode(), b"\x80\x04\x01a\x01b");
    }

    #[test]
    fn properties_survive_a_round_trip() {
        let properties = Properties::new()
            .persistent()
            .headers([("k", 1.into())])
            .with("timestamp", 5_u64)
            .with("app_id", "app");
        assert_eq!(Properties::decode(&properties.encode()), Ok(properties));
    }

    #[test]
    fn trailing_and_missing_values_are_malformed() {
        assert!(Properties::decode(b"\x80\x00").is_err());
        assert!(Properties::decode(b"\x00\x00\x00").is_err());
    }
}
