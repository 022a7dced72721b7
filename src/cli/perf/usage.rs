//! CPU time and memory of a running program, read from /proc. Linux only; elsewhere all is absent.
use super::error::{PerfError, Result};
use std::fs;

/// What /proc/PID/stat counts in: USER_HZ, which is 100 on every Linux platform we run on.
const TICK_US: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Own,
    Pid(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss_bytes: u64,
    pub(crate) peak_bytes: u64,
}

impl Program {
    /// User and system time together, of all threads that ever ran.
    pub(crate) fn cpu_us(self) -> Result<u64> {
        let text = self.read("stat")?;
        cpu_ticks(&text).map(|ticks| ticks * TICK_US).ok_or_else(|| self.unreadable("stat"))
    }

    pub(crate) fn memory(self) -> Result<Memory> {
        let text = self.read("status")?;
        let bytes = |name| status_kib(&text, name).map(|kib| kib * 1024);
        match (bytes("VmRSS:"), bytes("VmHWM:")) {
            (Some(rss_bytes), Some(peak_bytes)) => Ok(Memory { rss_bytes, peak_bytes }),
            _ => Err(self.unreadable("status")),
        }
    }

    fn read(self, file: &str) -> Result<String> {
        let path = match self {
            Self::Own => format!("/proc/self/{file}"),
            Self::Pid(pid) => format!("/proc/{pid}/{file}"),
        };
        fs::read_to_string(&path).map_err(|error| {
            PerfError::new(format!("cannot read {path}: {error}; name a process that runs"))
        })
    }

    fn unreadable(self, file: &str) -> PerfError {
        PerfError::new(format!("/proc/.../{file} of {self:?} has no CPU or memory figures"))
    }
}

/// utime and stime of /proc/PID/stat. The program's name may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_a_name_with_spaces() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (x) S"), None);
    }

    #[test]
    fn memory_is_read_by_name() {
        assert_eq!(status_kib("VmHWM:\t  9 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(status_kib("Name:\tx\n", "VmRSS:"), None);
    }
}
