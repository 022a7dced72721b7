//! How much memory the process uses, and how much it may use: of the machine or, in a container, of
//! its control group. Linux tells it in files; elsewhere it is unknown.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;

/// No block of this size comes from one that is shared with smaller ones.
const LARGE_BLOCK_BYTES: usize = 8 << 20;

/// What the system says in one file is shorter, or of no interest behind that.
const FIGURES_BYTES_MAX: usize = 16 << 10;

/// One look at the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// What the process has in memory (RSS).
    pub(super) used: u64,
    /// What the machine has, or the smallest limit of a control group that the process is in.
    pub(super) total: u64,
}

/// Where the memory is read. Its files stay open: a broker that has no file left for another
/// connection must still see how much memory it uses.
#[derive(Debug)]
pub(super) struct MemoryGauge {
    status: File,
    machine: File,
    limits: Vec<File>,
}

impl MemoryGauge {
    /// # Errors
    /// The file that is not there, or cannot be opened now.
    pub(super) fn open() -> Result<Self, String> {
        let open = |file: &str| File::open(file).map_err(|error| format!("{file}: {error}"));
        let groups = File::open("/proc/self/cgroup").and_then(|file| text(&file));
        let limits = limit_files(&groups.unwrap_or_default()).into_iter();
        Ok(Self {
            status: open("/proc/self/status")?,
            machine: open("/proc/meminfo")?,
            limits: limits.filter_map(|file| File::open(file).ok()).collect(),
        })
    }

    /// # Errors
    /// What the system does not tell.
    pub(super) fn read(&self) -> Result<Memory, String> {
        let figure = |file: &File, name: &str| {
            let text = text(file).map_err(|error| format!("{name} {error}"))?;
            kib_of(&text, name).ok_or_else(|| format!("the system does not tell {name}"))
        };
        let used = figure(&self.status, "VmRSS:")?;
        let physical = figure(&self.machine, "MemTotal:")?;
        let limits = self.limits.iter().filter_map(|file| limit(&text(file).ok()?));
        Ok(Memory { used, total: limits.fold(physical, u64::min) })
    }
}

/// How many files the process may have open at once, its connections among them.
pub(super) fn open_files_max() -> Option<u64> {
    let limits = File::open("/proc/self/limits").and_then(|file| text(&file)).ok()?;
    files_max(&limits)
}

/// The soft limit of a line like `Max open files    1024    524288    files`.
fn files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Lets the allocator give freed memory back to the system. mimalloc does so a second after it was
/// freed, but looks at its clock only when somebody takes or frees a large block; while all
/// publishers are blocked that may be nobody, and the process would seem to use what it does not.
pub(super) fn give_back() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK_BYTES)));
}

/// All of the file as it is now. Each read of such a file begins anew.
fn text(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; FIGURES_BYTES_MAX];
    let mut len = 0;
    loop {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    bytes.truncate(len);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The bytes of a line like `VmRSS:     1836 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The files with the limits of the process's control groups and of all above them, by the text of
/// /proc/self/cgroup: lines of a number, the controllers and a path. Version 2 has no controllers
/// there, version 1 a tree for each. A container may see its own group at the root of the tree, so
/// files that are not there mean nothing.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (tree, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = path.trim_end_matches('/');
        // A group outside of what the process can see is shown with dots.
        while !group.is_empty() && !group.contains("..") {
            files.push(format!("{tree}{group}/{file}"));
            group = group.rsplit_once('/').map_or("", |(above, _)| above);
        }
        files.push(format!("{tree}/{file}"));
    }
    files
}

/// The text of a limit's file; `None` is no limit.
fn limit(text: &str) -> Option<u64> {
    // Version 2 says `max`, version 1 a number beyond all memory.
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let memory = MemoryGauge::open().unwrap().read().unwrap();
        assert!(memory.used > 0 && memory.used < memory.total, "{memory:?}");
    }

    #[test]
    fn a_gauge_that_is_open_shows_what_is_used_now() {
        let gauge = MemoryGauge::open().unwrap();
        let before = gauge.read().unwrap();
        let large = black_box(vec![1_u8; 64 << 20]);
        let after = gauge.read().unwrap();
        assert!(after.used >= before.used + (32 << 20), "{before:?} {after:?} {}", large.len());
    }

    #[test]
    fn the_soft_limit_on_open_files_counts() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(files_max(limits), Some(1024));
        assert_eq!(files_max("Max open files  unlimited  unlimited  files"), None);
    }

    #[test]
    fn figures_are_found_by_name() {
        let status = "Name:\tleveret\nVmPeak:\t  200 kB\nVmRSS:\t    1836 kB\nThreads:\t1\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1836 * 1024));
        assert_eq!(kib_of("MemTotal:       24684084 kB\n", "MemTotal:"), Some(24_684_084 << 10));
        assert_eq!(kib_of(status, "VmSwap:"), None);
        assert_eq!(kib_of("VmRSS:\n", "VmRSS:"), None);
    }

    #[test]
    fn version_2_is_asked_for_the_group_and_all_above_it() {
        assert_eq!(
            limit_files("0::/system.slice/leveret.service\n"),
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn a_container_is_the_root_of_what_it_sees() {
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(limit_files("0::/../other\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn version_1_has_a_tree_for_memory() {
        let groups = "9:name=systemd:/\n4:cpu,memory:/docker/0a:1b\n1:cpu:/x\n0::/\n";
        assert_eq!(
            limit_files(groups),
            [
                "/sys/fs/cgroup/memory/docker/0a:1b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert!(limit_files("").is_empty() && limit_files("what\n1:2\n").is_empty());
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(limit("536870912\n"), Some(536_870_912));
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), Some(9_223_372_036_854_771_712));
    }
}
