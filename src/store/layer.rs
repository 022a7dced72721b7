//! A disk on top of another one, for whoever looks on or lies: it says only what it does otherwise,
//! all else is the other's.

use super::catalogue::{Catalogue, CatalogueError};
use super::disk::Disk;
use super::error::StoreError;
use super::failpoints::Failpoint;
use std::io::IoSlice;
use std::path::PathBuf;

/// Operations as those of `Disk`, each passed on to the disk below.
#[expect(clippy::missing_errors_doc, reason = "as for `Disk`")]
pub trait Layer: Send + Sync {
    fn below(&self) -> &dyn Disk;

    fn create(&self, file: &str) -> Result<(), StoreError> {
        self.below().create(file)
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.below().write_at(file, offset, pieces)
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        self.below().sync(file)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        self.below().read_at(file, offset, out)
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        self.below().truncate(file, len)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.below().rename(from, to)
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        self.below().remove(file)
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        self.below().sync_dir()
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        self.below().catalogue()
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        self.below().discard_catalogue()
    }

    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        self.below().reach(point)
    }
}

impl<L: Layer> Disk for L {
    fn create(&self, file: &str) -> Result<(), StoreError> {
        Layer::create(self, file)
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        Layer::write_at(self, file, offset, pieces)
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        Layer::sync(self, file)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        Layer::read_at(self, file, offset, out)
    }

    fn len(&self, file: &str) -> Result<u64, StoreError> {
        self.below().len(file)
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        Layer::truncate(self, file, len)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        Layer::rename(self, from, to)
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        Layer::remove(self, file)
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        self.below().list()
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        Layer::sync_dir(self)
    }

    fn room(&self) -> Result<Option<u64>, StoreError> {
        self.below().room()
    }

    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        Layer::reach(self, point)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.below().path(file)
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        Layer::catalogue(self)
    }

    fn has_catalogue(&self) -> bool {
        self.below().has_catalogue()
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        Layer::discard_catalogue(self)
    }

    fn catalogue_copy(&self) -> Result<Option<Box<dyn Catalogue>>, CatalogueError> {
        self.below().catalogue_copy()
    }

    fn broken_catalogues(&self) -> Result<Vec<String>, StoreError> {
        self.below().broken_catalogues()
    }
}
