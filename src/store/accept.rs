//! Makes a data directory usable again whose journal is damaged so that a start is refused: gives
//! up what cannot be read, and says so. Offline, and only when an operator asks for it.
//!
//! No byte of what can be read is given up. Each damaged file stays as it was under another name,
//! behind which nothing looks: `segment-N.broken-1`.

use super::Options;
use super::check::{Report, check};
use super::disk::Disk;
use super::error::StoreError;
use super::given_up::Loss;
use super::open::open_with;
use super::recovery::Segments;
use super::repair::make_catalogue;
use super::segment::{file_name, index_name};
use super::start::{self, Copies};
use std::collections::BTreeSet;
use std::io::IoSlice;

/// What was given up, a sentence each, and how all looks now.
#[derive(Debug)]
pub struct Accepted {
    pub given_up: Vec<String>,
    pub report: Report,
}

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// Gives up what no start passes over, and makes a checkpoint behind it. Nothing changes if there
/// is nothing to give up.
///
/// # Errors
/// The disk's; or that not even the definitions are there, or that a file is another version's.
pub fn accept_loss(disk: &dyn Disk, options: &Options) -> Result<Accepted, StoreError> {
    let (_, bad) = Segments::gather(disk)?;
    if let Some(other) = bad.iter().find(|error| error.damaged_at().is_none()) {
        return Err(other.clone());
    }
    let mut given_up = Vec::new();
    for error in bad {
        let file = error.path().file_name().map(|file| file.display().to_string());
        let file = file.unwrap_or_default();
        let aside = aside(disk, &file)?;
        disk.rename(&file, &aside)?;
        given_up.push(format!("{file}: {}; it is {aside} now", error.reason()));
    }
    let segments = Segments::read(disk)?;
    let (found, _) = start::find(disk, &segments, copies(disk), options.page_len, Loss::Accepted);
    let lost = found?.replayed.given_up;
    let mut kept = BTreeSet::new();
    for lost in &lost {
        let (file, index) = (file_name(lost.segment), index_name(lost.segment));
        if lost.is_there && kept.insert(lost.segment) {
            let aside = aside(disk, &file)?;
            copy(disk, &file, &aside)?;
            given_up.push(format!("{}; the file as it was is {aside}", lost.what));
        } else {
            given_up.push(lost.what.clone());
        }
        // It knows of messages that are given up.
        if disk.len(&index).is_ok() {
            disk.remove(&index)?;
        }
    }
    disk.sync_dir()?;
    if !given_up.is_empty() {
        let (store, recovered) = open_with(disk, options, copies, Loss::Accepted)?;
        make_catalogue(disk, &store, &recovered)?;
    }
    Ok(Accepted { given_up, report: check(disk, options.page_len)? })
}

fn copies(disk: &dyn Disk) -> Copies {
    let catalogue = disk.has_catalogue().then(|| disk.catalogue()).transpose();
    Copies::read(start::read(catalogue), disk)
}

/// A name beside the file's that is free.
fn aside(disk: &dyn Disk, file: &str) -> Result<String, StoreError> {
    let files = disk.list()?;
    let names = (1_u64..).map(|number| format!("{file}.broken-{number}"));
    let free = names.into_iter().find(|name| !files.contains(name));
    Ok(free.expect("there are more numbers than files"))
}

fn copy(disk: &dyn Disk, from: &str, to: &str) -> Result<(), StoreError> {
    disk.create(to)?;
    let (mut buffer, mut at) = (vec![0; COPY_BYTES], 0);
    loop {
        let read = disk.read_at(from, at, &mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        disk.write_at(to, at, &[IoSlice::new(bytes)])?;
        at += read as u64;
    }
    disk.sync(to)
}
