//! Listening sockets: exclusive, so that a second server on the same port is an error and not a
//! silent companion; IPv6 apart from IPv4; no delay, which accepted connections inherit. Several
//! sockets on one port are the subject of `steering`.
//!
//! A Unix socket's file outlives its server. One that nobody answers at is replaced, under a lock
//! on its directory, so that two servers that start at once do not replace each other's; any other
//! file is left alone. At its end a server removes the file if it is still its own.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinion_router::{CoreCount, CoreIndex};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::sys;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// A socket for an address, neither bound nor listening.
pub(crate) fn socket_for(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    // As Redis: a peer that vanished is noticed within ten minutes.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(300));
    socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(100)).with_retries(3))?;
    Ok(socket)
}

/// Binds and listens. Returns the socket and its address, with the port that the kernel chose if
/// it was 0.
pub(crate) fn listen(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = socket_for(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((OwnedFd::from(socket), bound))
}

/// The file of a Unix socket, removed when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(crate) struct UnixPath {
    path: PathBuf,
    identity: Identity,
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device, number and time of making: numbers are used again.
type Identity = (u64, u64, i64, i64);

fn identity(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino(), file.mtime(), file.mtime_nsec())
}

/// Binds a Unix socket and listens. `AlreadyExists` says that the path is something else than a
/// socket, `AddrInUse` that a server answers at it.
pub(crate) fn listen_unix(path: &Path, permissions: u32) -> io::Result<(OwnedFd, UnixPath)> {
    let address = SockAddr::unix(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")))?;
    sys::lock_exclusively(&folder)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        outcome => outcome?,
    }
    let identity = identity(&fs::symlink_metadata(path)?);
    let file = UnixPath { path: path.to_owned(), identity };
    // Before it listens, nobody can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(permissions))?;
    socket.listen(BACKLOG)?;
    Ok((OwnedFd::from(socket), file))
}

/// The path of a core's own Unix socket beside the one that all cores share: a dot and the core's
/// index at its end.
pub(crate) fn path_of_core(path: &Path, core: CoreIndex) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{core}"));
    PathBuf::from(name)
}

/// Binds a Unix socket for each core, as [`listen_unix`] does, at [`path_of_core`]: all of them, or
/// none.
pub(crate) fn listen_unix_cores(
    path: &Path,
    cores: CoreCount,
    permissions: u32,
) -> io::Result<Vec<(OwnedFd, UnixPath)>> {
    cores.indices().map(|core| listen_unix(&path_of_core(path, core), permissions)).collect()
}

/// Removes the socket of a server that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Somebody answers, or would if there were room or a right.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Whether an error means that the host does not have this kind of address at all.
pub(crate) fn is_absent(error: &io::Error, address: IpAddr) -> bool {
    let absent = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    address.is_ipv6() && error.raw_os_error().is_some_and(|code| absent.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_socket, bound) = listen(any).expect("a free port");
        assert_ne!(bound.port(), 0);
        let error = listen(bound).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn each_core_has_a_unix_socket_or_none_has() {
        let path = std::env::temp_dir().join(format!("pinion-cores-{}", std::process::id()));
        let cores = CoreCount::new(3).expect("a count");
        let of = |core| path_of_core(&path, CoreIndex::new(core));
        assert_eq!(of(2), PathBuf::from(format!("{}.2", path.display())));
        let sockets = listen_unix_cores(&path, cores, 0o700).expect("free paths");
        assert_eq!(sockets.len(), 3);
        for core in 0..3 {
            UnixStream::connect(of(core)).expect("it listens");
        }
        assert!(!path.exists(), "the shared path is another matter");
        drop(sockets);
        fs::write(of(1), b"precious").expect("write");
        let error = listen_unix_cores(&path, cores, 0o700).expect_err("one path is a file");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!of(0).exists() && of(1).exists(), "what was made is removed, and nothing else");
        fs::remove_file(of(1)).expect("ours");
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("pinion-listener-{}", std::process::id()));
        let (socket, file) = listen_unix(&path, 0o750).expect("a free path");
        let mode = fs::symlink_metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        let error = listen_unix(&path, 0o700).expect_err("somebody answers");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // A server that was killed leaves its file.
        drop(socket);
        let (_socket, newer) = listen_unix(&path, 0o700).expect("nobody answers");
        drop(file);
        assert!(path.exists(), "the older server does not remove the newer's");
        drop(newer);
        assert!(!path.exists());
        fs::write(&path, b"precious").expect("write");
        let error = listen_unix(&path, 0o700).expect_err("it is a file");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("it is left alone"), b"precious");
        fs::remove_file(&path).expect("ours");
    }
}
