//! The directory of catalogues: which of those in it is in use, how one is put aside, and how one
//! is looked into without touching it. What is in one is sled's.

use super::catalogue::{ANSWER_TIME, Catalogue, CatalogueError, Change, SledCatalogue};
use super::disk::{DIRECTORY_MODE, sync_directory};
use super::error::StoreError;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// In it each catalogue has a directory, a number one above the last one's: a stalled one that
/// comes to life finds its files by name, and must not find those of its successor.
const CATALOGUE: &str = "catalogue";

/// Before the number of one that was put aside.
const BROKEN: &str = "broken-";

/// For whoever wants to know what became of it.
const BROKEN_KEPT: usize = 2;

/// The numbers of the catalogues and of the broken ones, each in order.
fn catalogues(place: &Path) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let (mut live, mut broken) = (Vec::new(), Vec::new());
    let listed = match fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((live, broken)),
        listed => listed?,
    };
    for entry in listed {
        let name = entry?.file_name();
        let name = name.to_str().unwrap_or_default();
        let (number, numbers) = match name.strip_prefix(BROKEN) {
            Some(number) => (number, &mut broken),
            None => (name, &mut live),
        };
        numbers.extend(number.parse::<u64>());
    }
    live.sort_unstable();
    broken.sort_unstable();
    Ok((live, broken))
}

/// Whether there is a catalogue. One that cannot be looked at says so when it is opened.
pub(super) fn exists(directory: &Path) -> bool {
    catalogues(&directory.join(CATALOGUE)).map_or(true, |(live, _)| !live.is_empty())
}

/// Opens the catalogue of the data directory that is there, or a new one.
pub(super) fn open(directory: &Path) -> Result<Box<dyn Catalogue>, CatalogueError> {
    let place = directory.join(CATALOGUE);
    let (live, broken) = catalogues(&place).map_err(|error| failed("open", &place, &error))?;
    let fresh = broken.last().map_or(1, |last| last + 1);
    let current = live.last().copied().unwrap_or(fresh);
    create(&place).map_err(|error| failed("create", &place, &error))?;
    let catalogue = SledCatalogue::open(&place.join(current.to_string()), ANSWER_TIME)?;
    Ok(Box::new(catalogue))
}

/// Makes the directory for the broker's own user, whoever may look into the one around it.
fn create(place: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(place)
}

fn failed(operation: &'static str, place: &Path, error: &io::Error) -> CatalogueError {
    CatalogueError::new(operation, place, &error.to_string())
}

/// See `Disk::discard_catalogue`.
pub(super) fn discard(directory: &Path) -> Result<(), StoreError> {
    let place = &directory.join(CATALOGUE);
    let failed = |source| StoreError::io("put the catalogue aside in", place.clone(), source);
    let (live, mut broken) = catalogues(place).map_err(failed)?;
    let last = live.iter().chain(&broken).max().copied().unwrap_or(0);
    // First the successor: without it, a crash in between would open the old one's number again.
    create(&place.join((last + 1).to_string())).map_err(failed)?;
    for number in live {
        let aside = place.join(format!("{BROKEN}{number}"));
        if broken.contains(&number) {
            // A catalogue that was given up while it opened made its directory only now.
            fs::remove_dir_all(&aside).map_err(failed)?;
        } else {
            broken.push(number);
        }
        fs::rename(place.join(number.to_string()), aside).map_err(failed)?;
    }
    broken.sort_unstable();
    let too_many = broken.len().saturating_sub(BROKEN_KEPT);
    for number in broken.iter().take(too_many) {
        fs::remove_dir_all(place.join(format!("{BROKEN}{number}"))).map_err(failed)?;
    }
    sync_directory(place)
}

/// What the files hold whose names begin so; a directory that is not there holds none.
pub(super) fn files(directory: &Path, begin: &str) -> io::Result<Vec<Vec<u8>>> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut contents = Vec::new();
    for entry in listed {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(begin)) {
            contents.push(fs::read(entry.path())?);
        }
    }
    Ok(contents)
}

/// The names of those that were put aside.
pub(super) fn broken(directory: &Path) -> Result<Vec<String>, StoreError> {
    let place = directory.join(CATALOGUE);
    let (_, broken) =
        catalogues(&place).map_err(|source| StoreError::io("list", place.clone(), source))?;
    Ok(broken.iter().map(|number| format!("{CATALOGUE}/{BROKEN}{number}")).collect())
}

/// Copies the catalogue in use to where temporary files go, and opens that.
pub(super) fn open_copy(directory: &Path) -> Result<Option<Box<dyn Catalogue>>, CatalogueError> {
    let place = directory.join(CATALOGUE);
    let (live, _) = catalogues(&place).map_err(|error| failed("read", &place, &error))?;
    let Some(current) = live.last() else { return Ok(None) };
    let place = place.join(current.to_string());
    let copy = temporary().map_err(|error| failed("copy", &place, &error))?;
    // Whatever fails from here on, the copy goes.
    let mut opened = OpenCopy { catalogue: None, place: copy };
    let inside = opened.place.join(CATALOGUE);
    copy_directory(&place, &inside).map_err(|error| failed("copy", &place, &error))?;
    let copy = SledCatalogue::open(&inside, ANSWER_TIME);
    // Who reads of it knows the original only.
    opened.catalogue = Some(copy.map_err(|error| error.of(&place))?);
    Ok(Some(Box::new(opened)))
}

/// A directory of our own that nobody else may look into.
fn temporary() -> io::Result<PathBuf> {
    let mut tries = 0..1000;
    loop {
        let place = std::env::temp_dir().join(format!("leveret-check-{}", tries.start));
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if tries.next().is_none() {
                    return Err(error);
                }
            }
            created => return created.map(|()| place),
        }
    }
}

/// A catalogue's directories are not deep, but what lies there may be anything.
const DEPTH_MAX: usize = 8;

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    let mut pending = vec![(from.to_owned(), to.to_owned(), 0)];
    while let Some((from, to, depth)) = pending.pop() {
        fs::create_dir(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
            if kind.is_dir() && depth < DEPTH_MAX {
                pending.push((entry.path(), to, depth + 1));
            } else if kind.is_file() {
                fs::copy(entry.path(), to)?;
            }
        }
    }
    Ok(())
}

/// Removes itself when it is dropped.
struct OpenCopy {
    catalogue: Option<SledCatalogue>,
    place: PathBuf,
}

impl OpenCopy {
    fn catalogue(&mut self) -> Result<&mut SledCatalogue, CatalogueError> {
        let place = &self.place;
        self.catalogue.as_mut().ok_or_else(|| CatalogueError::new("read", place, "it is closed"))
    }
}

impl Drop for OpenCopy {
    fn drop(&mut self) {
        drop(self.catalogue.take());
        // What cannot be removed is left to whoever clears temporary files.
        let _ = fs::remove_dir_all(&self.place);
    }
}

impl Catalogue for OpenCopy {
    fn scan(
        &mut self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CatalogueError> {
        self.catalogue()?.scan(prefix, each)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.catalogue()?.get(key)
    }

    fn write(&mut self, changes: &mut Vec<Change>) -> Result<(), CatalogueError> {
        self.catalogue()?.write(changes)
    }

    fn flush(&mut self) -> Result<(), CatalogueError> {
        self.catalogue()?.flush()
    }
}
