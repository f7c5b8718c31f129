//! The control thread: what is slow or rare and must not run on a data core. It answers INFO and
//! `stats` from copies of the counters of all cores, and sees to the memory that the shards have lent it:
//! it populates what they will need next, and gives back what they need no more.

mod balance;
mod cores;
mod info;
mod info_pinion;
mod memory;
mod stats;
mod survey;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::command::write_latest;
use crate::core::{CoreHandle, CoreMessage, Findings, InfoRequest, Question, Request};
use crate::protocol::resp::{Version, Writer};
use crate::{log, sys};
use balance::{Balance, PERIOD};
use survey::Survey;

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
    let (mut balance, mut next_look) = (Balance::default(), Instant::now() + PERIOD);
    loop {
        let left = next_look.saturating_duration_since(Instant::now());
        let received = match cores.len() {
            1 => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => requests.recv_timeout(left),
        };
        let (number, request) = match received {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => {
                balance.look(cores);
                next_look = Instant::now() + PERIOD;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
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
        let Question { info, own, is_wide, key, ticket } = question;
        let told = survey::ask(cores, (number, own), &info.wanted(), is_wide);
        let bytes = answer(info, told, number, is_wide, facts);
        core.tell(CoreMessage::Reply { key, ticket, bytes });
    }
}

/// The answer to a question on core `asked` by what cores have told: all of them if it `is_wide`,
/// or that one.
fn answer(
    info: InfoRequest,
    told: Vec<(usize, Findings)>,
    asked: usize,
    is_wide: bool,
    facts: &ServerFacts,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let resp3 = match info {
        InfoRequest::Slowlog { count, resp3 } => {
            let entries = survey::slow_commands(told);
            write_latest(entries, count, &mut Writer::new(&mut bytes, version(resp3)));
            return bytes;
        }
        InfoRequest::Latency { question, resp3 } => {
            let mut reply = Writer::new(&mut bytes, version(resp3));
            question.answer(&survey::latency(told), &mut reply);
            return bytes;
        }
        InfoRequest::Info { resp3, .. }
        | InfoRequest::MemoryStats { resp3 }
        | InfoRequest::MemoryDoctor { resp3 }
        | InfoRequest::Cores { resp3 }
        | InfoRequest::SlowlogLength { resp3 } => resp3,
        _ => false,
    };
    let Some(survey) = Survey::of(told, asked, is_wide, facts.cpus.len()) else { return bytes };
    let (sum, version) = (&survey.sum, version(resp3));
    match info {
        InfoRequest::Info { sections, core_port, .. } => {
            verbatim(&info::text(&sections, core_port, &survey, facts), version)
        }
        InfoRequest::MemoryStats { .. } => memory::stats(sum, version),
        InfoRequest::MemoryDoctor { .. } => verbatim(&memory::diagnosis(sum), version),
        InfoRequest::Cores { .. } => cores::table(&survey, facts, version),
        InfoRequest::MemcachedStats(form) => stats::general(&survey, facts, form),
        InfoRequest::MemcachedSettings(form) => stats::settings(&survey, facts, form),
        InfoRequest::MemcachedSlabs(form) => stats::slabs(sum, form),
        InfoRequest::MemcachedCores(form) => cores::stats(&survey, facts, form),
        InfoRequest::SlowlogLength { .. } => {
            Writer::new(&mut bytes, version).integer(sum.slowlog_entries as i64);
            bytes
        }
        InfoRequest::Slowlog { .. } | InfoRequest::Latency { .. } => bytes,
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
