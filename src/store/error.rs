//! What stops the store: the operation, the file and the reason, in one line for an operator.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The disk's mistake. It stops the broker; nothing is retried.
#[derive(Clone, Debug)]
pub struct StoreError {
    operation: &'static str,
    path: PathBuf,
    reason: Reason,
}

#[derive(Clone, Debug)]
enum Reason {
    Io(Arc<io::Error>),
    Refused(String),
    Damaged { offset: u64, what: String },
}

impl StoreError {
    /// The operating system refused `operation`, a verb such as "append to".
    #[must_use]
    pub fn io(operation: &'static str, path: PathBuf, source: io::Error) -> Self {
        let reason = Reason::Io(Arc::new(source));
        Self { operation, path, reason }
    }

    /// We refuse, with a sentence.
    #[must_use]
    pub fn refused(operation: &'static str, path: PathBuf, why: impl Into<String>) -> Self {
        let reason = Reason::Refused(why.into());
        Self { operation, path, reason }
    }

    /// Bytes that were once safely on the disk cannot be read any more.
    #[must_use]
    pub fn damaged(path: PathBuf, offset: u64, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { operation: "read", path, reason: Reason::Damaged { offset, what } }
    }

    /// The same without the path, for whoever names that in another way.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.reason {
            Reason::Io(source) => format!("cannot {} it: {source}", self.operation),
            Reason::Refused(why) => why.clone(),
            Reason::Damaged { what, .. } => what.clone(),
        }
    }

    /// We may not, which says nothing of what is there.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let Reason::Io(source) = &self.reason else { return false };
        source.kind() == io::ErrorKind::PermissionDenied
    }

    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the damage begins, if damage is the reason.
    #[must_use]
    pub fn damaged_at(&self) -> Option<u64> {
        match self.reason {
            Reason::Damaged { offset, .. } => Some(offset),
            _ => None,
        }
    }
}

/// What an operator can do about it, behind what the operating system says.
fn way_out(operation: &str, kind: io::ErrorKind) -> &'static str {
    match (operation, kind) {
        (_, io::ErrorKind::StorageFull) => "; make room on its disk",
        (_, io::ErrorKind::ReadOnlyFilesystem) => "; mount it for writing",
        ("create", io::ErrorKind::NotFound) => {
            "; the data directory was taken away: put it back and start the broker again"
        }
        _ => "",
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::Io(source) => {
                let way_out = way_out(self.operation, source.kind());
                write!(f, "cannot {} {path}: {source}{way_out}", self.operation)
            }
            Reason::Refused(why) => write!(f, "cannot {} {path}: {why}", self.operation),
            Reason::Damaged { offset, what } => {
                write!(f, "{path} is damaged at byte {offset}: {what}")
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Io(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}
