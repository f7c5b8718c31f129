//! The control thread: what is slow or rare and must not run on a data core. It answers INFO and
//! `stats` from copies of the cores' counters, and sees to the memory that the shards have lent it:
//! it populates what they will need next, and gives back what they need no more.

mod info;
mod info_pinion;
mod memory;
mod stats;

use std::sync::mpsc::Receiver;

use crate::core::{CoreHandle, CoreMessage, InfoRequest, Question, Request};
use crate::protocol::resp::{Version, Writer};
use crate::{log, sys};

/// What the control thread knows of the server besides what the cores tell.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// When the server started, in milliseconds of Unix time.
    pub started_unix_ms: u64,
    /// The port for Redis clients.
    pub port: u16,
    /// Whether `port` is a core port, a node of a cluster: told to those who have come to one.
    pub is_core_port: bool,
    /// The port for memcached clients, 0 if there is none.
    pub memcached_port: u16,
    /// The kernel's setting of transparent huge pages.
    pub huge_pages: String,
    /// The memory node that items are bound to, or why they are not.
    pub numa: String,
    /// The policy's name, as Redis would call it.
    pub eviction: &'static str,
    /// The policy's name on the command line.
    pub eviction_name: &'static str,
    /// Connections allowed.
    pub connections_max: usize,
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
    /// Who drives the core.
    pub driver: String,
    /// How the core waits.
    pub idle: String,
    /// What moves the bytes of clients: `io_uring` or `epoll`.
    pub network: &'static str,
    /// The configuration file, if there is one.
    pub config_file: String,
    /// The CPUs of the cores, in the cores' order.
    pub cpus: Vec<usize>,
    /// The ring's features in use.
    pub ring_features: String,
    /// The kernel's release.
    pub kernel: String,
    /// The path of the program.
    pub executable: String,
    /// 40 hexadecimal digits that are different each time that a server starts.
    pub run_id: String,
}

/// Does what cores ask for until all of them have ended.
pub fn serve(requests: &Receiver<(usize, Request)>, cores: &[CoreHandle], facts: &ServerFacts) {
    while let Ok((number, request)) = requests.recv() {
        let core = &cores[number];
        let question = match request {
            Request::Question(question) => question,
            Request::Errand(errand) => {
                core.tell(CoreMessage::Returned(errand.run()));
                continue;
            }
            Request::Deal { core, listener, socket } => {
                if let Some(core) = cores.get(core) {
                    core.tell(CoreMessage::Adopt { listener, socket });
                }
                continue;
            }
            Request::Log(line) => {
                log::write(&line);
                continue;
            }
            Request::Trim => {
                sys::trim_heap();
                continue;
            }
            Request::Stop => {
                cores.iter().for_each(|core| core.tell(CoreMessage::Stop));
                continue;
            }
        };
        let Question { info, snapshot, key, ticket } = question;
        let bytes = match info {
            InfoRequest::Info { sections, resp3, core_port } => {
                let text = info::text(&sections, core_port, &snapshot, facts);
                verbatim(&text, version(resp3))
            }
            InfoRequest::MemoryStats { resp3 } => memory::stats(&snapshot, version(resp3)),
            InfoRequest::MemoryDoctor { resp3 } => {
                verbatim(&memory::diagnosis(&snapshot), version(resp3))
            }
            InfoRequest::MemcachedStats(form) => stats::general(&snapshot, facts, form),
            InfoRequest::MemcachedSettings(form) => stats::settings(&snapshot, facts, form),
        };
        core.tell(CoreMessage::Reply { key, ticket, bytes });
    }
}

fn version(resp3: bool) -> Version {
    if resp3 { Version::Resp3 } else { Version::Resp2 }
}

/// Text for people, as a reply.
fn verbatim(text: &str, version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 32);
    Writer::new(&mut bytes, version).verbatim(*b"txt", text.as_bytes());
    bytes
}
