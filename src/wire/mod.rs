//! AMQP 0-9-1 on the wire: bytes <-> frames <-> methods and contents. No sockets, and no state but
//! one channel's unfinished content (`content::Assembly`) and bytes to write (`output::Output`).
//!
//! ```text
//! frame (AMQP 0-9-1, 4.2.3)
//! +------+---------+------+---------------------+------+
//! | kind | channel | size | payload             | 0xCE |   kind: 1 method, 2 header, 3 body,
//! | u8   | u16     | u32  | size octets         | u8   |         8 heartbeat
//! +------+---------+------+---------------------+------+
//!
//! method payload (4.2.4)            header payload (4.2.6.1)
//! +-------+--------+-----------+    +-------+--------+-----------+-------+------------+
//! | class | method | fields    |    | class | weight | body size | flags | properties |
//! | u16   | u16    |           |    | u16   | u16: 0 | u64       | u16   | by flags   |
//! +-------+--------+-----------+    +-------+--------+-----------+-------+------------+
//!
//! fields: shortstr = u8 length + bytes; longstr, table = u32 length + bytes; numbers big-endian;
//!         adjacent bits share an octet, the first one lowest
//!
//! message: method frame, header frame, then body frames until `body size` octets have come
//! ```
//! All methods are coded by hand: `client` names a method's fields and borrows them from the input,
//! `decode` lists their layouts with nom, `server` writes the answers. amq-protocol gives the
//! numbers of frames and judges our bytes in the tests; its parsers own what they read, recurse
//! into tables, lose the order of their fields, and copy bodies.

pub mod client;
pub mod content;
mod decode;
mod delivery_count;
pub mod encode;
pub mod error;
mod foreign;
pub mod frame;
pub mod method;
mod notation;
pub mod output;
pub mod properties;
pub mod publish;
pub mod server;

pub use client::ClientMethod;
pub use content::{Assembly, ContentHeader};
pub use delivery_count::with_delivery_count;
pub use error::WireError;
pub use foreign::ForeignHeader;
pub use frame::{Decoded, FrameHead, FrameKind, decode_frame};
pub use output::Output;
pub use properties::{Properties, PropertiesError};
pub use publish::{Publish, parse_publish};
pub use server::ServerMethod;
