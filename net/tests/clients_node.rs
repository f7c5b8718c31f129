//! The server as Node clients see it: ioredis, node-redis and valkey-glide.
//!
//! `PINION_NODE_MODULES` names the folder where the packages are. Without it, or without Node, the
//! tests are skipped and say so; with `PINION_REQUIRE_CLIENTS` in the environment they fail.

mod support;

use std::process::{Command, Stdio};

use support::{Server, tools};

/// Node with a package at hand.
fn node(package: &str) -> Option<Command> {
    let mut node = Command::new(tools::program("node")?);
    let modules = std::env::var_os("PINION_NODE_MODULES").unwrap_or_default();
    node.env("NODE_PATH", modules);
    let script = format!("require('{package}')");
    let status = Command::new(node.get_program())
        .envs(node.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .args(["-e", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = status.is_ok_and(|status| status.success()).then_some(node);
    tools::required(found, &format!("Node package {package} (see PINION_NODE_MODULES)"))
}

fn node_session(part: &str, package: &str) {
    let Some(mut node) = node(package) else { return };
    let server = Server::start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/session.js");
    let port = server.resp.port().to_string();
    let output = tools::output(node.args([script, part, &port]), b"");
    assert_eq!(output.lines().last(), Some("passed"), "{output}");
}

#[test]
fn ioredis_works() {
    node_session("ioredis", "ioredis");
}

#[test]
fn node_redis_works() {
    node_session("node-redis", "redis");
}

#[test]
fn valkey_glide_works() {
    node_session("valkey-glide", "@valkey/valkey-glide");
}
