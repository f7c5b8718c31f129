//! The servers that can be compared: how each is started, and when it is ready.

use std::path::PathBuf;

use super::HarnessError;
use super::options::{CommonOptions, words};
use crate::client::Protocol;
use crate::floor::Shape;
use crate::launch::{Launch, Server, memcached_user, merge_arguments, version};

/// Memory that a key takes at most beside its bytes, in any of the servers.
const KEY_OVERHEAD_MAX_BYTES: u64 = 200;

/// Memory that a server gets beside its keys.
const SPARE_MEMORY_BYTES: u64 = 256 << 20;

/// A server to be measured.
#[derive(Clone, Debug)]
pub(super) struct ServerSpec {
    /// Its name in the report.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    flavour: Flavour,
    program: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
enum Flavour {
    /// The value of `--kind`.
    Floor(&'static str, Shape),
    Redis,
    Memcached,
    /// The arguments that its user asks for.
    Pinion(Vec<String>),
}

impl ServerSpec {
    /// All servers that the options name, in their order, variants last.
    ///
    /// # Errors
    ///
    /// If a name is unknown or doubled, a program is missing, or there is no server at all.
    pub(super) fn all(options: &CommonOptions) -> Result<Vec<ServerSpec>, HarnessError> {
        let mut specs: Vec<ServerSpec> = Vec::new();
        for name in &options.servers {
            specs.push(ServerSpec::named(name, options)?);
        }
        for variant in &options.variants {
            let mut spec = ServerSpec::pinion(Protocol::Resp, &variant.arguments, options)?;
            spec.name.clone_from(&variant.name);
            specs.push(spec);
        }
        for (index, spec) in specs.iter().enumerate() {
            if specs[..index].iter().any(|other| other.name == spec.name) {
                return Err(usage(format!("server {} is named twice", spec.name)));
            }
        }
        if specs.is_empty() {
            return Err(usage("no server to measure: give --servers or --variant".to_string()));
        }
        Ok(specs)
    }

    /// Whether it only moves bytes.
    pub(super) fn is_floor(&self) -> bool {
        matches!(self.flavour, Flavour::Floor(..))
    }

    /// Program and version, for the report.
    pub(super) fn provenance(&self) -> (String, String) {
        (self.program.display().to_string(), version(&self.program))
    }

    fn named(full_name: &str, options: &CommonOptions) -> Result<ServerSpec, HarnessError> {
        let (name, protocol) = match full_name.split_once('@') {
            None => (full_name, None),
            Some((name, "resp")) => (name, Some(Protocol::Resp)),
            Some((name, "memcached")) => (name, Some(Protocol::Memcached)),
            Some((name, "meta")) => (name, Some(Protocol::Meta)),
            Some((_, other)) => return Err(usage(format!("unknown protocol '{other}'"))),
        };
        let chosen = protocol.unwrap_or(Protocol::Resp);
        let mut spec = match name {
            "floor-epoll" | "floor-ring" | "floor-glommio" if chosen == Protocol::Meta => {
                return Err(usage(format!("{name} does not speak that protocol")));
            }
            "floor-epoll" => ServerSpec::floor("epoll", chosen, options)?,
            "floor-ring" => ServerSpec::floor("ring", chosen, options)?,
            "floor-glommio" => ServerSpec::floor("glommio-ring", chosen, options)?,
            "pinion" => ServerSpec::pinion(chosen, &[], options)?,
            "pinion-bare" => ServerSpec::pinion(chosen, &words("--driver bare"), options)?,
            "redis" if chosen == Protocol::Resp => ServerSpec {
                name: String::new(),
                protocol: Protocol::Resp,
                flavour: Flavour::Redis,
                program: options.redis.clone(),
            },
            "memcached" if protocol != Some(Protocol::Resp) => ServerSpec {
                name: String::new(),
                protocol: protocol.unwrap_or(Protocol::Memcached),
                flavour: Flavour::Memcached,
                program: options.memcached.clone(),
            },
            "redis" | "memcached" => {
                return Err(usage(format!("{name} does not speak that protocol")));
            }
            _ => return Err(usage(format!("unknown server '{name}'"))),
        };
        spec.name = full_name.to_string();
        Ok(spec)
    }

    fn floor(
        kind: &'static str,
        protocol: Protocol,
        options: &CommonOptions,
    ) -> Result<ServerSpec, HarnessError> {
        let program = match &options.floor {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|error| HarnessError::Io("find the floor program", error))?
                .with_file_name("floor"),
        };
        let shape = options.workload(protocol, 0).shape();
        Ok(ServerSpec {
            name: String::new(),
            protocol,
            flavour: Flavour::Floor(kind, shape),
            program,
        })
    }

    fn pinion(
        protocol: Protocol,
        arguments: &[String],
        options: &CommonOptions,
    ) -> Result<ServerSpec, HarnessError> {
        let Some(program) = options.pinion.clone() else {
            return Err(usage("give the pinion program with --pinion PATH".to_string()));
        };
        let mut all_arguments = words(&options.pinion_args);
        all_arguments.extend_from_slice(arguments);
        Ok(ServerSpec {
            name: String::new(),
            protocol,
            flavour: Flavour::Pinion(all_arguments),
            program,
        })
    }

    /// The command line, with the port to be measured and another free one.
    fn arguments(&self, options: &CommonOptions, port: u16, spare_port: u16) -> Vec<String> {
        let item_bytes = (options.key_size + options.value_size) as u64 + KEY_OVERHEAD_MAX_BYTES;
        let memory_mib = (options.keys.saturating_mul(item_bytes) * 2 + SPARE_MEMORY_BYTES) >> 20;
        match &self.flavour {
            Flavour::Floor(kind, shape) => words(&format!(
                "--kind {kind} --port {port} --cpu {} --request-get {} --request-set {} \
                 --reply-get {} --reply-set {}",
                options.server_cpu,
                shape.request_get_bytes,
                shape.request_set_bytes,
                shape.reply_get_bytes,
                shape.reply_set_bytes
            )),
            Flavour::Redis => {
                let mut arguments = words(&format!(
                    "--port {port} --bind 127.0.0.1 --appendonly no --io-threads 1 --save"
                ));
                arguments.push(String::new());
                arguments
            }
            Flavour::Memcached => {
                let mut arguments =
                    words(&format!("-p {port} -l 127.0.0.1 -U 0 -t 1 -c 4096 -m {memory_mib}"));
                arguments.extend(words(memcached_user()));
                arguments
            }
            Flavour::Pinion(extra) => {
                let (resp_port, memcached_port) = match self.protocol {
                    Protocol::Resp => (port, spare_port),
                    Protocol::Memcached | Protocol::Meta => (spare_port, port),
                };
                let ours = [
                    ("--bind", "127.0.0.1".to_string()),
                    ("--port", resp_port.to_string()),
                    ("--memcached-port", memcached_port.to_string()),
                    ("--cores", options.server_cpu.to_string()),
                    ("--memory", format!("{memory_mib}MiB")),
                ];
                merge_arguments(ours, extra)
            }
        }
    }

    /// Starts it and waits until it answers. Call it on a thread that lives as long as the server
    /// shall.
    ///
    /// # Errors
    ///
    /// If it does not start, or does not answer in time.
    pub(super) fn start(&self, options: &CommonOptions) -> Result<Server, HarnessError> {
        Server::start(&Launch {
            name: &self.name,
            program: &self.program,
            protocol: self.protocol,
            banner: self.is_floor().then_some("floor: listening"),
            cpu: Some(options.server_cpu),
            arguments: &|port, spare_port| self.arguments(options, port, spare_port),
        })
    }
}

fn usage(text: String) -> HarnessError {
    HarnessError::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &str) -> CommonOptions {
        #[derive(Parser)]
        struct Wrapper {
            #[command(flatten)]
            common: CommonOptions,
        }
        let words = std::iter::once("test").chain(arguments.split(' ').filter(|w| !w.is_empty()));
        Wrapper::try_parse_from(words).unwrap().common
    }

    fn refusal(arguments: &str) -> String {
        ServerSpec::all(&options(arguments)).unwrap_err().to_string()
    }

    #[test]
    fn servers_keep_their_order_and_protocols() {
        let options = options(
            "--servers floor-ring,floor-ring@memcached,redis,memcached,pinion@memcached \
             --pinion /x --variant v=--budget=64",
        );
        let specs = ServerSpec::all(&options).unwrap();
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let expected =
            ["floor-ring", "floor-ring@memcached", "redis", "memcached", "pinion@memcached", "v"];
        assert_eq!(names, expected);
        use Protocol::{Memcached, Resp};
        let protocols: Vec<Protocol> = specs.iter().map(|spec| spec.protocol).collect();
        assert_eq!(protocols, [Resp, Memcached, Resp, Memcached, Memcached, Resp]);
        assert!(specs[1].is_floor() && !specs[2].is_floor());
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        assert!(refusal("").contains("--servers"));
        assert!(refusal("--servers nginx").contains("nginx"));
        assert!(refusal("--servers redis@memcached").contains("redis"));
        assert!(refusal("--servers memcached@resp").contains("memcached"));
        assert!(refusal("--servers floor-ring@meta").contains("floor-ring"));
        assert!(refusal("--servers floor-ring@http").contains("http"));
        assert!(refusal("--servers redis,redis").contains("twice"));
        assert!(refusal("--servers pinion").contains("--pinion"));
    }

    #[test]
    fn what_the_user_says_to_pinion_wins() {
        let options = options("--pinion /x --variant v=--memory=1GiB --variant w=--cores");
        let specs = ServerSpec::all(&options).unwrap();
        let arguments = specs[0].arguments(&options, 7, 8).join(" ");
        assert_eq!(
            arguments,
            "--bind 127.0.0.1 --port 7 --memcached-port 8 --cores 0 --memory=1GiB"
        );
        assert!(specs[1].arguments(&options, 7, 8).join(" ").ends_with("MiB --cores"));
    }
}
