//! The first bytes of a peer that does not speak AMQP 0-9-1, and what it seems to speak.

use super::notation::Binary;
use std::fmt;

/// Displays as RabbitMQ's reason to refuse it, and what that means.
pub struct ForeignHeader<'a>(pub &'a [u8]);

const METHODS: [&[u8]; 8] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PRI * "];

impl fmt::Display for ForeignHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [b'A', b'M', b'Q', b'P', _, 1, 0, 0, ..] => {
                return f.write_str(
                    "amqp1_0_plugin_not_enabled: the client speaks AMQP 1.0, this port AMQP 0-9-1",
                );
            }
            [b'A', b'M', b'Q', b'P', a, b, c, d, ..] => {
                let port = "this port speaks AMQP 0-9-1";
                return write!(f, "{{bad_version,{{{a},{b},{c},{d}}}}}: {port}");
            }
            _ => {}
        }
        let header = self.0.first_chunk::<8>().map_or(self.0, |header| header);
        let guess = match self.0 {
            // A record of TLS: handshake, version 3.
            [22, 3, ..] => "the client speaks TLS, this port does not",
            bytes if METHODS.iter().any(|method| bytes.starts_with(method)) => {
                "the client speaks HTTP, this port AMQP 0-9-1"
            }
            _ => "the client does not speak AMQP 0-9-1",
        };
        write!(f, "{{bad_header,{}}}: {guess}", Binary(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_said_is_shown_with_what_it_means() {
        let cases: [(&[u8], &str); 6] = [
            (b"GET / HTTP/1.1", "{bad_header,<<\"GET / HT\">>}: the client speaks HTTP, this port"),
            (
                b"\x16\x03\x01\x02\0\x01\0\x01",
                "{bad_header,<<22,3,1,2,0,1,0,1>>}: the client speaks",
            ),
            (b"AMQP\x03\x01\0\0", "amqp1_0_plugin_not_enabled: the client speaks AMQP 1.0"),
            (b"AMQP\x01\x01\0\x07", "{bad_version,{1,1,0,7}}: this port speaks AMQP 0-9-1"),
            (b"AMX", "{bad_header,<<\"AMX\">>}: the client does not speak AMQP 0-9-1"),
            (b"x\ny\r", "{bad_header,<<\"x\\ny\\r\">>}: the client does not"),
        ];
        for (bytes, start) in cases {
            let text = ForeignHeader(bytes).to_string();
            assert!(text.starts_with(start), "{text}");
        }
    }
}
