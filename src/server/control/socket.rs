//! The socket's file: made anew by each start, and taken away by a clean stop.

use socket2::{Domain, SockAddr, Type};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// In the data directory.
pub const SOCKET_FILE: &str = "control.sock";

/// Whoever may write to it may connect: the broker's user.
const MODE: u32 = 0o600;

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 16;

/// Where the broker on that data directory listens for control.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}

/// A bound socket. Dropping it takes its file away.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Which file it is: a later broker of this process may have put its own there.
    file: (u64, u64),
}

impl Socket {
    /// Binds the socket of a directory that this process alone uses: a file that is there was left
    /// by a broker that is no more.
    pub(super) fn bind(directory: &Path) -> Result<Self, String> {
        let path = socket_path(directory);
        let failed =
            |what: &str, error: io::Error| format!("cannot {what} {}: {error}", path.display());
        match fs::symlink_metadata(&path) {
            Ok(left) if left.file_type().is_socket() => {
                fs::remove_file(&path).map_err(|error| failed("remove", error))?;
            }
            Ok(_) => return Err(format!("{} is no socket; move it away", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", error)),
        }
        let address = SockAddr::unix(&path).map_err(|_| too_long(&path))?;
        let listener = listen(&path, &address).map_err(|error| failed("listen on", error))?;
        let file = file_of(&path).map_err(|error| failed("look at", error))?;
        Ok(Self { listener, path, file })
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Nobody can connect before the file has its mode.
fn listen(path: &Path, address: &SockAddr) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(address)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

/// The system keeps a socket's path in some hundred bytes.
fn too_long(path: &Path) -> String {
    format!(
        "{} is too long for the path of a socket: use a shorter or a relative --data-dir",
        path.display()
    )
}

impl Drop for Socket {
    fn drop(&mut self) {
        if file_of(&self.path).is_ok_and(|file| file == self.file) {
            // The next start replaces one that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}
