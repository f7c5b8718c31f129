//! The first start: on a host that refuses something, as an ordinary user, beside another server;
//! each time one line says what is wrong and what to do, or what the server does instead.

mod support;

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::seccomp::{confine, forbid_io_uring, limit};
use support::{Reply, Server, ok, run_command_to_end};

const PORTS: [&str; 8] =
    ["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "auto", "--memory", "64MiB"];

fn pinion(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(PORTS).args(flags);
    command
}

/// What the server under this filter or limit complains of, in one line.
fn refusal(command: Command, words: &[&str]) {
    let text = format!("{command:?}");
    let (code, complaint) = run_command_to_end(command);
    assert_eq!(code, Some(1), "{text}: {complaint}");
    let lines: Vec<&str> = complaint.lines().filter(|line| line.starts_with("pinion: ")).collect();
    assert_eq!(lines.len(), 1, "{text}: {complaint}");
    for word in words {
        assert!(lines[0].contains(word), "{text}: {word} is missing in {complaint}");
    }
}

fn session(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    assert_eq!(server.memcached().ask("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn where_io_uring_is_forbidden_epoll_serves_and_says_so() {
    let mut command = pinion(&[]);
    forbid_io_uring(&mut command);
    command.stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    session(&server);
    let info = server.client().call(&["INFO"]).text();
    assert!(info.contains("network:epoll\r\n") && info.contains("driver:bare\r\n"), "{info}");
    server.signal("TERM");
    let mut log = String::new();
    server.stderr().read_to_string(&mut log).expect("text");
    assert_eq!(server.wait(), Some(0));
    let line = log.lines().find(|line| line.contains("event=epoll")).expect("it says so");
    assert!(line.contains("level=warn") && line.contains("seccomp"), "{line}");
}

/// The profile that is shipped, as a filter in force: the server runs, with io_uring.
#[test]
fn the_profile_for_containers_lets_io_uring_serve() {
    for flags in [&["--network", "io_uring"][..], &["--network", "epoll"]] {
        let mut command = pinion(flags);
        let denied = confine(&mut command, include_str!("../dist/seccomp.json"));
        assert!(denied >= 50, "{denied} calls are denied");
        let mut server = Server::spawn(command);
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
        assert!(status.is_ok_and(|status| status.contains("Seccomp:\t2")), "it is in force");
        session(&server);
        let info = server.client().call(&["INFO"]).text();
        assert!(info.contains(&format!("network:{}\r\n", flags[1])), "{info}");
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
    }
}

#[test]
fn io_uring_alone_is_refused_with_the_option_to_give() {
    for flags in [&["--network", "io_uring"][..], &["--network", "io_uring", "--check-config"]] {
        let mut command = pinion(flags);
        forbid_io_uring(&mut command);
        refusal(command, &["seccomp", "--security-opt seccomp=", "--network epoll"]);
    }
    let mut command = pinion(&["--driver", "glommio"]);
    forbid_io_uring(&mut command);
    refusal(command, &["--driver glommio", "--driver bare"]);
}

#[test]
fn too_little_locked_memory_takes_glommio_away() {
    if Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n") {
        // The kernel does not hold root to it, but the check looks at the number alone.
        println!("running as root");
    }
    let with_limit = |flags: &[&str]| {
        let mut command = pinion(flags);
        limit(&mut command, libc::RLIMIT_MEMLOCK, 64 << 10);
        command
    };
    refusal(with_limit(&["--driver", "glommio"]), &["64 KiB", "LimitMEMLOCK=", "--driver bare"]);
    let mut server = Server::spawn(with_limit(&[]));
    session(&server);
    assert!(server.client().call(&["INFO"]).text().contains("driver:bare\r\n"));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn few_open_files_mean_few_connections() {
    let with_limit = |flags: &[&str], files| {
        let mut command = pinion(flags);
        limit(&mut command, libc::RLIMIT_NOFILE, files);
        command
    };
    refusal(with_limit(&["--max-connections", "500"], 200), &["564", "200", "LimitNOFILE="]);
    refusal(with_limit(&[], 64), &["the limit on open files is 64", "ulimit -n"]);
    let server = Server::spawn(with_limit(&[], 80));
    let mut clients: Vec<_> = (0..16).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".into()));
    }
    let refused = server.client().reply();
    assert_eq!(refused, Reply::Error("ERR max number of clients reached".into()));
}

#[test]
fn it_runs_as_an_ordinary_user() {
    // SAFETY: the call takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: the test is an ordinary user's already");
        return;
    }
    // The test's directory may be closed to others.
    let program = std::env::temp_dir().join(format!("pinion-nobody-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_pinion"), &program).expect("copy");
    let as_nobody = |flags: &[&str]| {
        let mut command = Command::new(&program);
        command.args(flags).uid(65_534).gid(65_534).current_dir("/");
        command
    };
    let mut server = Server::spawn(as_nobody(&PORTS));
    session(&server);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if start.is_ok_and(|start| start.trim() == "1024") {
        let flags = ["--bind", "127.0.0.1", "--port", "1", "--memcached-port", "0"];
        let flags = [&flags[..], &["--memory", "64MiB"]].concat();
        refusal(as_nobody(&flags), &["127.0.0.1:1", "--port", "CAP_NET_BIND_SERVICE"]);
    }
    let path = "/proc/pinion.sock";
    refusal(as_nobody(&[&PORTS[..], &["--unix", path]].concat()), &[path, "--unix"]);
    std::fs::remove_file(&program).expect("ours");
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(["--bind", "127.0.0.1", "--port", "0", "--memory", "900000GiB"]);
    refusal(command, &["--memory 900000GiB", "memory.max"]);
}

#[test]
fn systemd_is_told() {
    let path = std::env::temp_dir().join(format!("pinion-systemd-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let mut command = pinion(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = Server::spawn(command);
    let told = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).expect("a datagram");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    server.signal("TERM");
    assert_eq!((told(), server.wait()), ("STOPPING=1".to_owned(), Some(0)));
    std::fs::remove_file(&path).expect("ours");
}

/// A cgroup with a quota of half a CPU and 512 MiB, if this host lets us make one.
fn small_cgroup() -> Option<std::path::PathBuf> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok()?;
    if !controllers.contains("cpu") || !controllers.contains("memory") {
        return None;
    }
    let name = format!("/sys/fs/cgroup/pinion-test-{}", std::process::id());
    std::fs::create_dir(&name).ok()?;
    let wrote = std::fs::write(format!("{name}/cpu.max"), "50000 100000").is_ok()
        && std::fs::write(format!("{name}/memory.max"), "536870912").is_ok();
    if !wrote {
        let _ = std::fs::remove_dir(&name);
        return None;
    }
    Some(name.into())
}

#[test]
fn a_small_cgroup_is_respected() {
    let Some(folder) = small_cgroup() else {
        println!("skipped: cgroups cannot be made here");
        return;
    };
    let in_cgroup = |flags: &str| {
        let mut command = Command::new("sh");
        let (program, procs) = (env!("CARGO_BIN_EXE_pinion"), folder.join("cgroup.procs"));
        let ports = "--bind 127.0.0.1 --port 0 --memcached-port auto";
        let script = format!("echo $$ > {} && exec {program} {ports} {flags}", procs.display());
        command.args(["-c", &script]);
        command
    };
    refusal(in_cgroup("--memory 1GiB"), &["--memory 1GiB", "512 MiB", "memory.max"]);
    let mut command = in_cgroup("--idle spin:50us");
    command.stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    session(&server);
    let info = server.client().call(&["INFO", "memory"]).text();
    assert!(info.contains("maxmemory:268435456\r\n"), "half of what is allowed: {info}");
    server.signal("TERM");
    let mut log = String::new();
    server.stderr().read_to_string(&mut log).expect("text");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(log.matches("event=cpu-quota").count(), 2, "{log}");
    for _ in 0..1_000 {
        if std::fs::remove_dir(&folder).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the cgroup stays in use");
}
