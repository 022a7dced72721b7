//! The limits behind the resource alarms: RabbitMQ's keys `disk_free_limit` and
//! `vm_memory_high_watermark`, each of which is a part of all memory or a number of bytes.

use super::conf::Fault;
use super::{Config, value};

/// A number of bytes, or a part of the memory that there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResourceLimit {
    Absolute(u64),
    Relative(f64),
}

impl ResourceLimit {
    /// The limit in bytes, for a machine with `total` bytes of memory.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Absolute(bytes) => bytes,
            // A fraction of a byte does not matter, and a product too large becomes the largest.
            Self::Relative(part) => (total as f64 * part) as u64,
        }
    }
}

/// The largest `disk_free_limit.relative`; RabbitMQ's advice is 1 to 2.
const RELATIVE_DISK_MAX: f64 = 100.0;

/// Keys of which the first has no effect beside the second.
pub(super) const OUTWEIGHED: [(&str, &str); 2] = [
    ("vm_memory_high_watermark.absolute", "vm_memory_high_watermark.relative"),
    ("disk_free_limit.absolute", "disk_free_limit.relative"),
];

/// What the lines of one file say.
#[derive(Default)]
pub(super) struct Limits {
    memory: Given,
    disk: Given,
}

#[derive(Default)]
struct Given {
    absolute: Option<u64>,
    relative: Option<f64>,
}

impl Limits {
    /// Returns whether the key is one of these.
    pub(super) fn take(&mut self, key: &str, text: &str) -> Result<bool, Fault> {
        let fault = |way_out| Fault::value(text, way_out);
        let (given, key, most) = match key.split_once('.') {
            Some(("vm_memory_high_watermark", key)) => (&mut self.memory, key, 1.0),
            Some(("disk_free_limit", key)) => (&mut self.disk, key, RELATIVE_DISK_MAX),
            _ => return Ok(false),
        };
        match key {
            "absolute" => given.absolute = Some(value::resource(text).map_err(fault)?),
            "relative" => given.relative = Some(value::fraction(text, most).map_err(fault)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn apply(self, config: &mut Config) {
        if let Some(limit) = self.memory.limit() {
            config.memory_high_watermark = limit;
        }
        if let Some(limit) = self.disk.limit() {
            config.disk_free_limit = limit;
        }
    }
}

impl Given {
    /// RabbitMQ: a relative limit wins over an absolute one, wherever they stand.
    fn limit(self) -> Option<ResourceLimit> {
        let relative = self.relative.map(ResourceLimit::Relative);
        relative.or_else(|| self.absolute.map(ResourceLimit::Absolute))
    }
}

#[cfg(test)]
mod tests {
    use super::ResourceLimit::{Absolute, Relative};
    use super::*;

    fn read(text: &str) -> Result<[ResourceLimit; 2], String> {
        read_with_warnings(text).map(|(limits, _)| limits)
    }

    fn read_with_warnings(text: &str) -> Result<([ResourceLimit; 2], Vec<String>), String> {
        let mut config = Config::default();
        let warnings = config.apply_conf("rabbitmq.conf", text, &|_| None);
        let warnings = warnings.map_err(|error| error.to_string())?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(([config.memory_high_watermark, config.disk_free_limit], warnings))
    }

    #[test]
    fn the_defaults_are_rabbitmqs() {
        assert_eq!(read("").unwrap(), [Relative(0.4), Absolute(50_000_000)]);
    }

    #[test]
    fn a_relative_limit_wins_over_an_absolute_one_wherever_it_stands() {
        let memory = "vm_memory_high_watermark.absolute = 2GB\n";
        let disk = "disk_free_limit.absolute = 1GiB\n";
        let both = format!("{memory}{disk}");
        assert_eq!(read(&both).unwrap(), [Absolute(2_000_000_000), Absolute(1 << 30)]);
        let both = format!(
            "vm_memory_high_watermark.relative = 0.6\n{memory}{disk}disk_free_limit.relative = 1.5"
        );
        let (limits, warnings) = read_with_warnings(&both).unwrap();
        assert_eq!(limits, [Relative(0.6), Relative(1.5)]);
        assert_eq!(
            warnings,
            [
                "rabbitmq.conf:2: vm_memory_high_watermark.absolute has no effect, since line 1 \
                 gives a relative limit",
                "rabbitmq.conf:3: disk_free_limit.absolute has no effect, since line 4 gives a \
                 relative limit",
            ]
        );
    }

    #[test]
    fn limits_out_of_range_say_what_to_write() {
        assert_eq!(
            read("vm_memory_high_watermark.relative = 40%").unwrap_err(),
            "rabbitmq.conf:1: vm_memory_high_watermark.relative: '40%' is not a value for it; give \
             a part of all memory from 0 to 1, such as 0.4"
        );
        assert_eq!(
            read("disk_free_limit.absolute = much").unwrap_err(),
            "rabbitmq.conf:1: disk_free_limit.absolute: 'much' is not a value for it; give bytes, \
             such as 50MB (of 1000 kB) or 2GiB (of 1024 MiB)"
        );
        assert!(read("disk_free_limit.relative = -1").is_err());
        assert!(read("vm_memory_high_watermark.relative = 1.1").is_err());
        assert!(read("vm_memory_high_watermark.relative = NaN").is_err());
    }

    #[test]
    fn a_relative_limit_is_a_part_of_all_memory() {
        assert_eq!(Relative(0.5).bytes(1000), 500);
        assert_eq!(Relative(0.0).bytes(1000), 0);
        assert_eq!(Relative(100.0).bytes(u64::MAX), u64::MAX);
        assert_eq!(Absolute(7).bytes(1000), 7);
    }
}
