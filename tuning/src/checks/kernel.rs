//! Checks of the kernel: its version, and whether it lets this process make an io_uring.

use super::set_sysctl;
use crate::check::{Check, Finding, Group, Remedy};
use crate::host::{Host, Unreadable};
use crate::sys::UringProbe;
use std::io;

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const URING_DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
const URING_GROUP: &str = "/proc/sys/kernel/io_uring_group";

/// The oldest kernel that has every io_uring feature which the server cannot do without.
const RELEASE_MIN: (u32, u32) = (6, 1);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "kernel-version",
        group: Group::Kernel,
        wanted: "6.1 or later",
        why: "Deferred task work, which the data ring is built on, came with Linux 6.1.",
        sources: &[RELEASE],
        inspect: kernel_version,
    },
    Check {
        name: "io-uring-sysctl",
        group: Group::Kernel,
        wanted: "0",
        why: "The server does all its network I/O through io_uring; 2 forbids it to everybody, \
              1 to all but one group and administrators.",
        sources: &[URING_DISABLED, URING_GROUP],
        inspect: uring_sysctl,
    },
    Check {
        name: "io-uring-probe",
        group: Group::Kernel,
        wanted: "a ring with deferred task work",
        why: "Containers often forbid io_uring by a seccomp filter, which only an attempt shows.",
        sources: &["io_uring_setup(2)"],
        inspect: uring_probe,
    },
];

fn kernel_version(host: &Host) -> Result<Finding, Unreadable> {
    let release = host.read(RELEASE)?;
    let version = parse_release(&release).ok_or_else(|| Unreadable::content(RELEASE, &release))?;
    if version >= RELEASE_MIN {
        return Ok(Finding::ok(release));
    }
    let remedy = Remedy::new("Boot a kernel of version 6.1 or later");
    Ok(Finding::problem(release, remedy))
}

/// Major and minor version of a release like `6.1.0-18-amd64` or `6.18-rc1`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

fn uring_sysctl(host: &Host) -> Result<Finding, Unreadable> {
    let value: u8 = host.read_as(URING_DISABLED)?;
    match value {
        0 => Ok(Finding::ok("0, allowed to everybody")),
        1 => {
            // Absent or -1: nobody but administrators.
            let group = host.read_as::<i64>(URING_GROUP).unwrap_or(-1);
            let found = if group < 0 {
                "1, allowed to administrators only".to_owned()
            } else {
                format!("1, allowed to the group {group} and to administrators")
            };
            let action = "Run the server in the allowed group (kernel.io_uring_group), or allow \
                          io_uring to everybody";
            Ok(Finding::advise(found, Remedy::with(action, set_sysctl(URING_DISABLED, 0))))
        }
        2 => {
            let remedy = Remedy::with("Allow io_uring", set_sysctl(URING_DISABLED, 0));
            Ok(Finding::problem("2, forbidden to everybody", remedy))
        }
        other => Err(Unreadable::content(URING_DISABLED, &other.to_string())),
    }
}

fn uring_probe(host: &Host) -> Result<Finding, Unreadable> {
    host.probe_uring().map(|answer| judge_probe(&answer))
}

fn judge_probe(answer: &UringProbe) -> Finding {
    match answer {
        UringProbe::Deferred => Finding::ok("works, with deferred task work"),
        UringProbe::Plain => Finding::problem(
            "works, but without deferred task work",
            Remedy::new("Boot a kernel of version 6.1 or later"),
        ),
        UringProbe::Refused(error) => Finding::problem(format!("refused: {error}"), refused(error)),
    }
}

/// What to do about each reason for which the kernel refuses a ring.
fn refused(error: &io::Error) -> Remedy {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Remedy::with(
            "Set kernel.io_uring_disabled to 0; in a container, also let the seccomp profile \
             allow io_uring_setup, io_uring_enter and io_uring_register",
            "docker run --security-opt seccomp=PROFILE.json ...",
        ),
        Some(libc::ENOSYS) => Remedy::new(
            "Boot a kernel with CONFIG_IO_URING; in a container, let the seccomp profile allow \
             io_uring_setup, io_uring_enter and io_uring_register",
        ),
        Some(libc::ENOMEM) => {
            Remedy::with("Raise the limit of locked memory", "LimitMEMLOCK=infinity")
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            Remedy::with("Raise the limit of open files", "LimitNOFILE=1048576")
        }
        _ => Remedy::new("See io_uring_setup(2) for what this error means"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, verdict) in [
            ("6.1.0-18-amd64", "ok"),
            ("6.18.44", "ok"),
            ("10.0-rc1", "ok"),
            ("6.0.19", "problem"),
            ("5.15.0-105-generic", "problem"),
            ("six", "unknown"),
            ("6", "unknown"),
            ("6.x", "unknown"),
        ] {
            let tree = Tree::new().file("proc/sys/kernel/osrelease", release);
            assert_eq!(outcome("kernel-version", &tree).0, verdict, "{release}");
        }
    }

    #[test]
    fn the_sysctl_decides_who_may() {
        let with = |value: &str, group: &str| {
            let tree = Tree::new()
                .file("proc/sys/kernel/io_uring_disabled", value)
                .file("proc/sys/kernel/io_uring_group", group);
            outcome("io-uring-sysctl", &tree)
        };
        assert_eq!(with("0", "-1").0, "ok");
        let (verdict, found, command) = with("1", "-1");
        assert_eq!((verdict, found.as_str()), ("advise", "1, allowed to administrators only"));
        assert_eq!(command.as_deref(), Some("sudo sysctl -w kernel.io_uring_disabled=0"));
        assert!(with("1", "990").1.contains("group 990"));
        assert_eq!(with("2", "-1").0, "problem");
        assert_eq!(with("3", "-1").0, "unknown");
    }

    #[test]
    fn every_answer_of_the_probe_is_judged() {
        let word = |answer| match judge_probe(&answer).judgement {
            crate::check::Judgement::Ok => "ok",
            crate::check::Judgement::Advise(_) => "advise",
            crate::check::Judgement::Problem(_) => "problem",
        };
        assert_eq!(word(UringProbe::Deferred), "ok");
        assert_eq!(word(UringProbe::Plain), "problem");
        for code in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::EFAULT] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(word(UringProbe::Refused(error)), "problem", "{code}");
        }
        let memory = refused(&io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(memory.command.as_deref(), Some("LimitMEMLOCK=infinity"));
    }
}
