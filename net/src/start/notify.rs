//! Telling systemd how far the server is: one datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! Source: sd_notify(3), "Notes".

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::log::{self, Level, Line};

/// Sends a state such as `READY=1`, if somebody wants to know.
pub fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&name, state) {
        let line = Line::new(Level::Warn, "sd-notify", "systemd cannot be told of this state");
        log::write(&line.with("state", state).with("error", error));
    }
}

fn send(name: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_abstract_sockets_and_paths() {
        let name = format!("pinion-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bind");
        send(OsStr::new(&format!("@{name}")), "READY=1").expect("sent");
        let mut bytes = [0; 16];
        let length = socket.recv(&mut bytes).expect("a datagram");
        assert_eq!(&bytes[..length], b"READY=1");
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
