//! A received content: the method that carries it, its header and its body.

use crate::codec::{BODY, Frame, HEADER, Method, Properties, Reader, Table};
use crate::outcome::{Outcome, fail, same};

pub(crate) struct Content {
    pub(crate) method: Method,
    pub(crate) properties: Properties,
    /// Flags and values as they came.
    pub(crate) encoded: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Payload sizes of the body frames.
    pub(crate) frames: Vec<usize>,
}

impl Content {
    pub(super) fn read(
        method: Method,
        mut next_frame: impl FnMut() -> Outcome<Frame>,
    ) -> Outcome<Self> {
        let header = next_frame()?;
        same("type of the frame after the method", header.kind, HEADER)?;
        let mut reader = Reader::new(&header.payload);
        same("class of the header", reader.u16()?, 60)?;
        same("weight of the header", reader.u16()?, 0)?;
        let size = reader.u64()?;
        let encoded = reader.take(reader.remaining())?.to_vec();
        let properties = Properties::decode(&encoded)?;
        let (mut body, mut frames) = (Vec::new(), Vec::new());
        while (body.len() as u64) < size {
            let frame = next_frame()?;
            same("type of the frame inside the content", frame.kind, BODY)?;
            frames.push(frame.payload.len());
            body.extend(frame.payload);
        }
        same("bytes of the body", body.len() as u64, size)?;
        Ok(Self { method, properties, encoded, body, frames })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn tag(&self) -> u64 {
        self.method.number("delivery_tag")
    }

    pub(crate) fn redelivered(&self) -> bool {
        self.method.bit("redelivered")
    }

    pub(crate) fn headers(&self) -> Outcome<&Table> {
        match self.properties.get_headers() {
            Some(headers) => Ok(headers),
            None => fail("the message has no headers"),
        }
    }

    /// Exchange, routing key and body.
    pub(crate) fn expect(&self, exchange: &str, key: &str, body: &str) -> Outcome {
        same("exchange", self.method.text("exchange").as_str(), exchange)?;
        same("routing key", self.method.text("routing_key").as_str(), key)?;
        same("body", self.text().as_str(), body)
    }
}
