//! Files of one data directory, by name: the seam below which tests put a disk that lies.
//!
//! What a file holds is safe after `sync`, what the directory lists (create, rename, remove) only
//! after `sync_dir`. This is the only file that touches the file system.

use super::catalogue::{Catalogue, CatalogueError};
use super::catalogue_place;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::segment;
use super::snapshot::FILE as SNAPSHOT_FILE;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Operations on the named files of one directory.
pub trait Disk: Send + Sync {
    /// Makes an empty file; one of that name is emptied.
    ///
    /// # Errors
    /// What the operating system says, as for every operation here.
    fn create(&self, file: &str) -> Result<(), StoreError>;

    /// Writes the pieces in order at the file's end. After an error a part may be there.
    ///
    /// # Errors
    /// If a byte could not be written.
    fn append(&self, file: &str, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.write_at(file, self.len(file)?, pieces)
    }

    /// Writes the pieces in order from `offset` on, over what is there; a file that ends before it
    /// gets zeros in between. After an error a part may be there.
    ///
    /// # Errors
    /// If a byte could not be written.
    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError>;

    /// Returns once what was written or cut survives a power loss (`fdatasync`).
    ///
    /// # Errors
    /// If that cannot be said of every byte. It must not be tried again: a kernel that failed to
    /// write a page may count it as clean from then on.
    fn sync(&self, file: &str) -> Result<(), StoreError>;

    /// Fills `out` from `offset` on, as far as the file goes, and says how far.
    ///
    /// # Errors
    /// If the file is not there or cannot be read.
    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError>;

    /// # Errors
    /// If the file is not there.
    fn len(&self, file: &str) -> Result<u64, StoreError>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// If it cannot be cut.
    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError>;

    /// Gives the file a new name, taking the place of one that has it.
    ///
    /// # Errors
    /// If there is no such file.
    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError>;

    /// # Errors
    /// If there is no such file.
    fn remove(&self, file: &str) -> Result<(), StoreError>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn list(&self) -> Result<Vec<String>, StoreError>;

    /// Returns once creates, renames and removes survive a power loss.
    ///
    /// # Errors
    /// If that cannot be said.
    fn sync_dir(&self) -> Result<(), StoreError>;

    /// Bytes that may still be written; `None` if the disk cannot tell.
    ///
    /// # Errors
    /// If the file system does not say.
    fn room(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Is told of each place between two steps.
    ///
    /// # Errors
    /// A test's: the power went here.
    fn reach(&self, _: Failpoint) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where an operator finds the file.
    fn path(&self, file: &str) -> PathBuf;

    /// Opens the catalogue that is there, or a new one; one at a time.
    ///
    /// # Errors
    /// If it errs or gives no answer in time. The way on is `discard_catalogue`.
    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError>;

    /// Whether there is a catalogue to open; if not, opening makes one.
    fn has_catalogue(&self) -> bool {
        true
    }

    /// Puts the catalogue aside, whatever state it is in, so that the next one opened is new. One
    /// that is still open does not reach the new one.
    ///
    /// # Errors
    /// If the directory cannot be changed.
    fn discard_catalogue(&self) -> Result<(), StoreError>;

    /// Opens a copy of the catalogue that is there, to look into: opening one changes its files.
    /// `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be copied, errs or gives no answer in time.
    fn catalogue_copy(&self) -> Result<Option<Box<dyn Catalogue>>, CatalogueError>;

    /// The names of the catalogues that were put aside.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn broken_catalogues(&self) -> Result<Vec<String>, StoreError>;
}

/// Files that are kept open, at most: a process may have few, and connections need them.
const OPEN_MAX: usize = 128;

/// Pieces that one call to the operating system takes (Linux: 1024).
const PIECES_MAX: usize = 1024;

/// Between two looks at a lock that is taken.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// What is stored is for the broker's own user.
const FILE_MODE: u32 = 0o600;
pub(super) const DIRECTORY_MODE: u32 = 0o700;

/// Held locked by the broker that owns the directory.
const LOCK_FILE: &str = "lock";

/// A directory of the file system, owned by one broker at a time.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// By name, opened on use; not more than `OPEN_MAX`.
    open: Mutex<HashMap<String, Arc<File>>>,
    /// The lock ends when this is closed, however the broker ends.
    _lock: Option<File>,
    read_only: bool,
}

impl RealDisk {
    /// Takes possession of `directory`, which is created if it is not there.
    ///
    /// # Errors
    /// If it is not a directory, may not be written, or belongs to a running broker.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        create_directory(&directory)?;
        let lock = lock(&directory)?;
        Ok(Self { directory, open: Mutex::default(), _lock: Some(lock), read_only: false })
    }

    /// Looks at a directory that is there, without changing a byte of it.
    ///
    /// # Errors
    /// If it is no directory or cannot be read, holds no data, or belongs to a running broker.
    pub fn open_to_read(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        let refused =
            |why| Err(StoreError::refused("check the data directory", directory.clone(), why));
        match fs::metadata(&directory) {
            Err(source) => return Err(StoreError::io("check", directory, source)),
            Ok(metadata) if !metadata.is_dir() => return refused("it is not a directory"),
            Ok(_) => {}
        }
        let lock = lock_to_read(&directory)?;
        let disk = Self { directory, open: Mutex::default(), _lock: lock, read_only: true };
        if disk._lock.is_none() && !disk.list()?.iter().any(|file| is_of_store(file)) {
            let why = "no broker ever kept its data here; name the directory of --data-dir";
            return Err(StoreError::refused("check the data directory", disk.directory, why));
        }
        Ok(disk)
    }

    fn file(&self, name: &str, operation: &'static str) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(name) {
            return Ok(file.clone());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(!self.read_only)
            .open(self.directory.join(name))
            .map(Arc::new)
            .map_err(|source| self.error(operation, name, source))?;
        if open.len() >= OPEN_MAX {
            // Any will do, since it is opened again if need be; but not the segment that is written
            // to: an error of the disk is told to who had the file open when it happened.
            let written = open.keys().filter(|name| segment::number_of(name).is_some()).max();
            let others = open.keys().filter(|name| Some(*name) != written);
            let half: Vec<_> = others.take(OPEN_MAX / 2).cloned().collect();
            half.iter().for_each(|name| drop(open.remove(name)));
        }
        open.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn error(&self, operation: &'static str, file: &str, source: io::Error) -> StoreError {
        StoreError::io(operation, self.directory.join(file), source)
    }
}

impl Disk for RealDisk {
    fn create(&self, file: &str) -> Result<(), StoreError> {
        // `file` opens what is there, and keeps it open.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        options
            .open(self.directory.join(file))
            .map(drop)
            .map_err(|source| self.error("create", file, source))
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        let opened = self.file(file, "write to")?;
        write_all_at(&opened, offset, pieces).map_err(|source| self.error("write to", file, source))
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        let opened = self.file(file, "sync")?;
        opened.sync_data().map_err(|source| self.error("sync", file, source))
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        let opened = self.file(file, "read")?;
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match opened.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.error("read", file, source)),
            }
        }
        Ok(filled)
    }

    fn len(&self, file: &str) -> Result<u64, StoreError> {
        let metadata = self.file(file, "open")?.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|source| self.error("measure", file, source))
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        let opened = self.file(file, "cut")?;
        opened.set_len(len).map_err(|source| self.error("cut", file, source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        fs::rename(self.directory.join(from), self.directory.join(to))
            .map_err(|source| self.error("rename", from, source))?;
        open.remove(to);
        if let Some(file) = open.remove(from) {
            open.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        fs::remove_file(self.directory.join(file))
            .map_err(|source| self.error("remove", file, source))?;
        open.remove(file);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::io("list", self.directory.clone(), source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && is_file
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        sync_directory(&self.directory)
    }

    fn room(&self) -> Result<Option<u64>, StoreError> {
        // What is left for users other than root.
        match rustix::fs::statvfs(&self.directory) {
            Ok(stat) => Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize))),
            Err(errno) => {
                Err(StoreError::io("measure the room in", self.directory.clone(), errno.into()))
            }
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        catalogue_place::open(&self.directory)
    }

    fn has_catalogue(&self) -> bool {
        catalogue_place::exists(&self.directory)
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        catalogue_place::discard(&self.directory)
    }

    fn catalogue_copy(&self) -> Result<Option<Box<dyn Catalogue>>, CatalogueError> {
        catalogue_place::open_copy(&self.directory)
    }

    fn broken_catalogues(&self) -> Result<Vec<String>, StoreError> {
        catalogue_place::broken(&self.directory)
    }
}

/// Whether a broker gives such a name to a file.
fn is_of_store(file: &str) -> bool {
    file == SNAPSHOT_FILE || segment::number_of(file).is_some()
}

fn create_directory(directory: &Path) -> Result<(), StoreError> {
    let refused = |why| StoreError::refused("use the data directory", directory.into(), why);
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(refused("it is not a directory")),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(StoreError::io("use the data directory", directory.into(), source));
        }
    }
    directory
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| DirBuilder::new().mode(DIRECTORY_MODE).create(directory))
        .map_err(|source| StoreError::io("create the data directory", directory.into(), source))?;
    // The directory's own entry must last as well, or a power loss takes all that is in it.
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StoreError::io("sync the directory", directory.into(), source))
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(directory.join(LOCK_FILE))
        .map_err(|source| StoreError::io("lock the data directory", directory.into(), source))?;
    take(lock, directory)
}

/// The lock of a directory that a broker had once; `None` if it is a copy without it.
fn lock_to_read(directory: &Path) -> Result<Option<File>, StoreError> {
    match File::open(directory.join(LOCK_FILE)) {
        Ok(lock) => take(lock, directory).map(Some),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("read the lock of", directory.into(), source)),
    }
}

fn take(lock: File, directory: &Path) -> Result<File, StoreError> {
    let operation = "lock the data directory";
    // A child that was forked holds what its parent gave up until it runs its own program.
    let patience = (0..20).find_map(|_| match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            std::thread::sleep(LOCK_RETRY);
            None
        }
        done => Some(done),
    });
    match patience.unwrap_or(Err(TryLockError::WouldBlock)) {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let why = "another broker is running on it; stop that one, or name another directory";
            Err(StoreError::refused(operation, directory.into(), why))
        }
        Err(TryLockError::Error(source)) => {
            Err(StoreError::io(operation, directory.into(), source))
        }
    }
}

/// Writes every byte: a vectored write may stop anywhere, also within a piece.
fn write_all_at(file: &File, mut offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
    let mut pieces = pieces.to_vec();
    let mut rest = pieces.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let batch = rest.get(..PIECES_MAX).unwrap_or(rest);
        match rustix::io::pwritev(file, batch, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(source) => return Err(source.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_on_the_directory_is_refused_with_a_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let first = RealDisk::open(&path).unwrap();
        let refusal = RealDisk::open(&path).unwrap_err().to_string();
        let place = path.display();
        let expected = format!(
            "cannot lock the data directory {place}: another broker is running on it; stop that \
             one, or name another directory"
        );
        assert_eq!(refusal, expected);
        drop(first);
        RealDisk::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = RealDisk::open(file.path()).unwrap_err().to_string();
        assert!(refusal.ends_with("it is not a directory"), "{refusal}");
    }

    #[test]
    fn files_are_written_in_pieces_read_cut_renamed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        assert!(disk.room().unwrap().is_some());
        disk.create("a").unwrap();
        let many: Vec<_> = (0..3000).map(|_| IoSlice::new(b"xy")).collect();
        disk.append("a", &many).unwrap();
        disk.append("a", &[IoSlice::new(b""), IoSlice::new(b"end")]).unwrap();
        disk.sync("a").unwrap();
        assert_eq!(disk.len("a").unwrap(), 6003);
        let mut out = [0; 8];
        assert_eq!(disk.read_at("a", 5998, &mut out).unwrap(), 5);
        assert_eq!(&out[..5], b"xyend");
        disk.truncate("a", 2).unwrap();
        disk.write_at("a", 2, &[IoSlice::new(b"?")]).unwrap();
        disk.write_at("a", 2, &[IoSlice::new(b"!")]).unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.read_at("b", 0, &mut out).unwrap(), 3);
        assert_eq!(&out[..3], b"xy!");
        disk.remove("b").unwrap();
        let missing = disk.append("b", &[]).unwrap_err().to_string();
        assert!(missing.starts_with("cannot open "), "{missing}");
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn what_is_created_is_for_its_own_user_and_what_is_there_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("parent/new");
        let disk = RealDisk::open(&new).unwrap();
        disk.create("segment-0000000001").unwrap();
        drop(disk.catalogue().unwrap());
        assert_eq!((mode(&new), mode(&new.join("catalogue"))), (0o700, 0o700));
        assert_eq!(mode(&new.join("segment-0000000001")), 0o600);
        assert_eq!(mode(&new.join(LOCK_FILE)), 0o600);
        drop(disk);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o750)).unwrap();
        drop(RealDisk::open(&new).unwrap());
        assert_eq!(mode(&new), 0o750);
    }
}
