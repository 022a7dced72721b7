//! Values of `rabbitmq.conf`: text to numbers, sizes, booleans and addresses. An error is the way
//! out, as a phrase to follow the value.

use crate::limits::EXPIRY_MS_MAX;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Reads a whole number in the range.
pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|n| range.contains(n));
    number.ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("give a whole number from {least} to {most}")
    })
}

/// Reads bytes: a number that may end in `kb`, `mb` or `gb`, each 1024 of the one before.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: Option<u64> = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.filter(|n| range.contains(n)).ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("give bytes from {least} to {most}, such as 131072 or 128kb")
    })
}

/// Reads bytes as RabbitMQ's resource limits are written: `k`, `M`, `G` and `kiB` are powers of
/// 1024, `kB`, `MB` and `GB` of 1000.
pub(super) fn resource(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: Option<u64> = match unit.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        "tb" => Some(1_000_000_000_000),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "t" | "tib" => Some(1 << 40),
        _ => None,
    };
    let bytes = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| "give bytes, such as 50MB (of 1000 kB) or 2GiB (of 1024 MiB)".into())
}

/// Reads a part of all memory, from zero to `most`.
pub(super) fn fraction(text: &str, most: f64) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..=most).contains(part));
    part.ok_or_else(|| format!("give a part of all memory from 0 to {most}, such as 0.4"))
}

/// Reads a time in milliseconds, or that there is none.
pub(super) fn timeout(text: &str) -> Result<Option<u64>, String> {
    if matches!(text, "undefined" | "false") {
        return Ok(None);
    }
    let most = EXPIRY_MS_MAX.unsigned_abs();
    let ms = number(text, 1..=most).map(Some);
    ms.map_err(|range| format!("{range}, in milliseconds, or undefined for none"))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err("choose true or false".into()),
    }
}

/// Reads a name that fits into AMQP's short string.
pub(super) fn name(text: &str) -> Result<crate::name::Name, String> {
    match text.len() {
        1..=255 => Ok(text.into()),
        _ => Err("give 1 to 255 bytes".into()),
    }
}

/// Reads a port, an `ADDRESS:PORT` or an `[ADDRESS]:PORT`; a port alone means every interface.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    let parse = || {
        let (address, port) = text.rsplit_once(':')?;
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, port.parse().ok()?))
    };
    parse().ok_or_else(|| "give a port or IP:PORT, such as 5672 or 127.0.0.1:5672".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_in_any_case() {
        let any = |text| size(text, 0..=u64::MAX).ok();
        assert_eq!(any("4kb"), Some(4096));
        assert_eq!(any("2GB"), Some(2 << 30));
        assert_eq!(any("16 MiB"), Some(16 << 20));
        assert_eq!(any("131072"), Some(131_072));
        for bad in ["", "kb", "-1", "1.5mb", "3tb", "99999999999999999999", "1 k b"] {
            assert_eq!(any(bad), None, "{bad}");
        }
    }

    #[test]
    fn resource_limits_have_rabbitmqs_units() {
        let bytes = |text| resource(text).ok();
        assert_eq!([bytes("50MB"), bytes("50mb")], [Some(50_000_000); 2]);
        assert_eq!([bytes("50MiB"), bytes("50M")], [Some(52_428_800); 2]);
        assert_eq!([bytes("5kB"), bytes("5k"), bytes("0")], [Some(5000), Some(5120), Some(0)]);
        assert_eq!(bytes("2TiB"), Some(2 << 40));
        for bad in ["", "MB", "-1", "5.5GB", "5 MB", "1b", "1e9", "99999999999TB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn listeners_are_written_as_erlang_prints_them_or_with_brackets() {
        let listen = |text| listener(text).map(|address| address.to_string()).ok();
        assert_eq!(listen("5672").as_deref(), Some("[::]:5672"));
        assert_eq!(listen(":::5672").as_deref(), Some("[::]:5672"));
        assert_eq!(listen("::1:5672").as_deref(), Some("[::1]:5672"));
        assert_eq!(listen("[::1]:5672").as_deref(), Some("[::1]:5672"));
        assert_eq!(listen("127.0.0.1:0").as_deref(), Some("127.0.0.1:0"));
        for bad in ["", "70000", "127.0.0.1", "host:5672", "1.2.3.4:x"] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_out_of_range_says_the_range() {
        assert_eq!(number("60", 0..=u16::MAX), Ok(60));
        let text = number("65536", 0..=u16::MAX).unwrap_err();
        assert_eq!(text, "give a whole number from 0 to 65535");
    }
}
