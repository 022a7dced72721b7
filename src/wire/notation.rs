//! Erlang's notation of a binary, as RabbitMQ's texts show what a peer sent: `<<"abc">>` if it is
//! printable, otherwise `<<0,10,255>>`.

use std::fmt;

/// The start of a payload, kept for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Octets {
    shown: [u8; Self::SHOWN_MAX],
    shown_len: usize,
    is_all: bool,
}

impl Octets {
    /// RabbitMQ: longer payloads are cut to this.
    const SHOWN_MAX: usize = 16;

    pub(crate) fn of(payload: &[u8]) -> Self {
        let mut shown = [0; Self::SHOWN_MAX];
        for (to, from) in shown.iter_mut().zip(payload) {
            *to = *from;
        }
        Self {
            shown,
            shown_len: payload.len().min(Self::SHOWN_MAX),
            is_all: payload.len() <= Self::SHOWN_MAX,
        }
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.is_all { "all" } else { "first 16" };
        let shown = self.shown.get(..self.shown_len).unwrap_or(&self.shown);
        write!(f, "{extent} octets = {}", Binary(shown))
    }
}

/// Octets that display as an Erlang binary on one line.
pub(crate) struct Binary<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Binary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utf8 = std::str::from_utf8(self.0).ok().filter(|text| !text.is_empty());
        if let Some(text) = utf8.filter(|text| text.chars().all(is_printable)) {
            let suffix = if text.is_ascii() { "" } else { "/utf8" };
            return write!(f, "<<\"{}\"{suffix}>>", Escaped(text.chars()));
        }
        let latin1 = self.0.iter().copied().map(char::from);
        if utf8.is_none() && !self.0.is_empty() && latin1.clone().all(is_printable) {
            return write!(f, "<<\"{}\">>", Escaped(latin1));
        }
        f.write_str("<<")?;
        for (index, octet) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
        f.write_str(">>")
    }
}

fn is_printable(c: char) -> bool {
    match c {
        '\u{8}'..='\u{d}' | '\u{1b}' => true,
        _ => !c.is_control(),
    }
}

struct Escaped<I>(I);

impl<I: Iterator<Item = char> + Clone> fmt::Display for Escaped<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.clone() {
            let letter = match c {
                '"' | '\\' => c,
                '\u{8}' => 'b',
                '\t' => 't',
                '\n' => 'n',
                '\u{b}' => 'v',
                '\u{c}' => 'f',
                '\r' => 'r',
                '\u{1b}' => 'e',
                plain => {
                    f.write_char(plain)?;
                    continue;
                }
            };
            write!(f, "\\{letter}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_a_string_only_if_all_of_it_is_printable() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "<<>>"),
            (b"abc", "<<\"abc\">>"),
            (b"\0\x0a\0\x32", "<<0,10,0,50>>"),
            (b"a\"\\\r\n\x1b", "<<\"a\\\"\\\\\\r\\n\\e\">>"),
            (b"\x07", "<<7>>"),
            (b"a\x7f", "<<97,127>>"),
            (b"\xe9t\xe9", "<<\"\u{e9}t\u{e9}\">>"),
            ("\u{e9}".as_bytes(), "<<\"\u{e9}\"/utf8>>"),
        ];
        for (octets, text) in cases {
            assert_eq!(Binary(octets).to_string(), text);
        }
    }

    #[test]
    fn a_long_payload_is_cut_to_16_octets() {
        assert_eq!(Octets::of(b"x").to_string(), "all octets = <<\"x\">>");
        let text = Octets::of(&[b'a'; 17]).to_string();
        assert_eq!(text, "first 16 octets = <<\"aaaaaaaaaaaaaaaa\">>");
    }
}
