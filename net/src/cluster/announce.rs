//! The host that cluster clients are told: the address by which they came, or `--announce`.

use std::net::IpAddr;

/// The longest name of a host (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// The host to tell a client that reached us at this address of ours: what is announced, or the
/// address. IPv6 without brackets, as in Redis, and an IPv4 address that the kernel wrote as an
/// IPv6 one as itself.
#[must_use]
pub fn host(announce: Option<&str>, local: IpAddr) -> String {
    announce.map_or_else(|| local.to_canonical().to_string(), str::to_owned)
}

/// Reads what is to be announced: a name, or an address with or without brackets.
///
/// # Errors
/// Says in words what is wrong with it.
pub fn parse_announce(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        let address = address.to_canonical();
        if address.is_unspecified() {
            return Err(format!("'{text}' is no address that a client could connect to"));
        }
        return Ok(address.to_string());
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_name) {
        return Err(format!("'{text}' is neither the name of a host nor an address"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_as_redis_does() {
        for (local, told) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::1", "::1"),
            ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ] {
            let local = local.parse().expect("an address");
            assert_eq!(host(None, local), told);
            assert_eq!(host(Some("cache.example"), local), "cache.example");
        }
    }

    #[test]
    fn what_is_announced_can_be_connected_to() {
        for (text, told) in [
            ("cache-1.example", "cache-1.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(parse_announce(text).as_deref(), Ok(told));
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for text in ["", "0.0.0.0", "::", "[::]", "a b", "host:7000", "[::1", "a@b", "a,b", &long] {
            assert!(parse_announce(text).is_err(), "{text}");
        }
    }
}
