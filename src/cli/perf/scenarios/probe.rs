//! What the machine can do without a broker, measured in the same minutes as the brokers: writes
//! synced to disk, and bytes relayed over loopback. Disks and virtual machines change their mind.
use super::super::error::{PerfError, Result};
use super::super::histogram::Histogram;
use super::super::start_thread;
use super::rows::{Bare, Row};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const PROBE_MS: u64 = 2_000;
/// Written before it is measured, so that no write has to allocate blocks.
const FILE_BYTES: usize = 256 << 20;
const SYNC_BYTES: usize = 4096;
const READ_BYTES: usize = 256 * 1024;

/// The figures of one row, one of each repeat.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Messages a second.
    pub(super) rates: Vec<f64>,
    /// Median time of one small write and its sync.
    pub(super) sync_ns: Vec<f64>,
}

impl Probes {
    pub(super) fn run(&mut self, row: &Row, dir: &Path) -> Result<()> {
        let disk = |error: io::Error| {
            let dir = dir.display();
            PerfError::new(format!("disk probe in {dir}: {error}; give --probe-dir another place"))
        };
        match row.bare {
            None => {}
            Some(Bare::DiskBatches { bytes, messages }) => {
                let synced = write_and_sync(dir, bytes).map_err(disk)?;
                let seconds = synced.elapsed.as_secs_f64();
                self.rates.push(synced.times.count() as f64 * messages as f64 / seconds);
            }
            Some(Bare::DiskSync) => {
                let synced = write_and_sync(dir, SYNC_BYTES).map_err(disk)?;
                self.sync_ns.push(synced.times.quantile(0.5) as f64);
            }
            Some(Bare::Relay { bytes }) => {
                let rate = relay(bytes).map_err(|error| error.inside("relay probe"))?;
                self.rates.push(rate);
            }
        }
        Ok(())
    }
}

struct Synced {
    times: Histogram,
    elapsed: Duration,
}

/// Writes and syncs pieces of `bytes` for a while, into a file that has its blocks already.
fn write_and_sync(dir: &Path, bytes: usize) -> io::Result<Synced> {
    let path = dir.join(format!("leveret-perf-probe-{}", std::process::id()));
    let file = OpenOptions::new().create_new(true).write(true).open(&path)?;
    let synced = write_and_sync_file(file, bytes);
    std::fs::remove_file(&path).and(synced)
}

fn write_and_sync_file(mut file: File, bytes: usize) -> io::Result<Synced> {
    // Zeros could be stored as holes.
    let piece: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
    let pieces = (FILE_BYTES / bytes).max(1);
    let block: Vec<u8> = (0..1 << 20).map(|index| (index % 249) as u8).collect();
    for _ in 0..(pieces * bytes).div_ceil(block.len()) {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut times = Histogram::new();
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_millis(PROBE_MS) {
        if times.count().is_multiple_of(pieces as u64) {
            file.seek(SeekFrom::Start(0))?;
        }
        let write_at = Instant::now();
        file.write_all(&piece)?;
        file.sync_data()?;
        times.record(write_at.elapsed().as_nanos() as u64);
    }
    Ok(Synced { times, elapsed: started_at.elapsed() })
}

/// Messages of `bytes` a second that go from a writer over a relay to a reader, three threads.
fn relay(bytes: usize) -> Result<f64> {
    let broken = |error: io::Error| PerfError::new(error.to_string());
    let (mut publishing, relay_in) = socket_pair().map_err(broken)?;
    let (relay_out, consuming) = socket_pair().map_err(broken)?;
    let relay = start_thread("relay", move || pass_on(relay_in, Some(relay_out)))?;
    let reader = start_thread("reader", move || pass_on(consuming, None))?;
    let message = vec![1; bytes];
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_millis(PROBE_MS) {
        publishing.write_all(&message).map_err(broken)?;
    }
    publishing.shutdown(Shutdown::Write).map_err(broken)?;
    let mut read = 0;
    for thread in [relay, reader] {
        let passed = thread.join().map_err(|_| PerfError::new("a thread died"))?;
        read = passed.map_err(broken)?;
    }
    Ok(read as f64 / bytes as f64 / started_at.elapsed().as_secs_f64())
}

fn pass_on(mut from: TcpStream, mut to: Option<TcpStream>) -> io::Result<usize> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(total);
        }
        total += read;
        if let Some(to) = &mut to {
            to.write_all(&buffer[..read])?;
        }
    }
}

fn socket_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
