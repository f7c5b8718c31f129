//! Who used how much CPU during a round.
//!
//! Server and client are read from the kernel's exact per-process and per-thread clocks, the
//! machine from `/proc/stat` with a grain of 10 ms per CPU. What the machine did and neither of
//! the two is *foreign*: neighbours, the kernel's own threads, interrupts.

use std::io;

use serde_json::{Value, json};

use crate::sys::cpu;
use crate::sys::proc::{MachineTime, machine_time, voluntary_switches};

/// The cost of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) requests: u64,
    pub(super) elapsed_ns: u64,
    pub(super) server_cpu_ns: u64,
    pub(super) client_cpu_ns: u64,
    pub(super) machine_cpu_ns: u64,
    pub(super) stolen_ns: u64,
    /// What all CPUs together could have done in the elapsed time.
    pub(super) machine_max_ns: u64,
    /// How often a thread of the server went to sleep, and so had to be woken.
    pub(super) server_wakes: u64,
    pub(super) reply_segments: u64,
}

impl Cost {
    /// `amount` per request; NaN if there was none.
    pub(super) fn per_request(&self, amount: u64) -> f64 {
        if self.requests == 0 { f64::NAN } else { amount as f64 / self.requests as f64 }
    }

    /// Requests per second.
    pub(super) fn rate_per_s(&self) -> f64 {
        self.requests as f64 / self.elapsed_ns as f64 * 1e9
    }

    /// The part of the machine that others used, 0 to 1.
    pub(super) fn foreign_share(&self) -> f64 {
        let own_ns = self.server_cpu_ns + self.client_cpu_ns;
        self.machine_cpu_ns.saturating_sub(own_ns) as f64 / self.machine_max_ns as f64
    }

    /// The part of the machine that the hypervisor gave to others, 0 to 1.
    pub(super) fn stolen_share(&self) -> f64 {
        self.stolen_ns as f64 / self.machine_max_ns as f64
    }

    /// For a report.
    pub(super) fn to_json(self) -> Value {
        json!({
            "requests": self.requests,
            "elapsed_ns": self.elapsed_ns,
            "server_cpu_ns": self.server_cpu_ns,
            "client_cpu_ns": self.client_cpu_ns,
            "machine_cpu_ns": self.machine_cpu_ns,
            "stolen_ns": self.stolen_ns,
            "server_wakes": self.server_wakes,
            "reply_segments": self.reply_segments,
        })
    }
}

/// The readings at the start of a round.
pub(super) struct Meter {
    server_pid: u32,
    start_ns: u64,
    server_cpu_ns: u64,
    server_wakes: u64,
    machine: MachineTime,
}

impl Meter {
    /// Reads all clocks. Call it on the client's thread, right before the load.
    pub(super) fn start(server_pid: u32) -> io::Result<Meter> {
        Ok(Meter {
            server_pid,
            server_wakes: voluntary_switches(server_pid)?,
            machine: machine_time()?,
            start_ns: cpu::monotonic_ns(),
            server_cpu_ns: cpu::process_cpu_ns(server_pid)?,
        })
    }

    /// Reads them again. The client's figures come from the client.
    pub(super) fn stop(
        self,
        requests: u64,
        client_cpu_ns: u64,
        reply_segments: u64,
    ) -> io::Result<Cost> {
        let server_cpu_ns = cpu::process_cpu_ns(self.server_pid)? - self.server_cpu_ns;
        let elapsed_ns = cpu::monotonic_ns() - self.start_ns;
        let machine = machine_time()?;
        let server_wakes = voluntary_switches(self.server_pid)?.saturating_sub(self.server_wakes);
        let machine_max_ns = elapsed_ns * machine.cpu_count;
        let stolen_ns = machine.stolen_ns.saturating_sub(self.machine.stolen_ns);
        // Waits for disks are allowed to count backwards.
        let idle_ns = machine.idle_ns.saturating_sub(self.machine.idle_ns);
        Ok(Cost {
            requests,
            elapsed_ns,
            server_cpu_ns,
            client_cpu_ns,
            machine_cpu_ns: machine_max_ns.saturating_sub(idle_ns + stolen_ns),
            stolen_ns,
            machine_max_ns,
            server_wakes,
            reply_segments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_server_nor_client_is_foreign() {
        let cost = Cost {
            requests: 1000,
            elapsed_ns: 1_000_000,
            server_cpu_ns: 300_000,
            client_cpu_ns: 500_000,
            machine_cpu_ns: 900_000,
            stolen_ns: 20_000,
            machine_max_ns: 2_000_000,
            ..Cost::default()
        };
        assert_eq!(cost.per_request(cost.server_cpu_ns), 300.0);
        assert_eq!(cost.rate_per_s(), 1e6);
        assert_eq!(cost.foreign_share(), 0.05);
        assert_eq!(cost.stolen_share(), 0.01);
        // The grain of the machine's clock may make it less than its parts.
        assert_eq!(Cost { machine_cpu_ns: 0, ..cost }.foreign_share(), 0.0);
        assert!(Cost::default().per_request(1).is_nan());
    }

    #[test]
    fn a_meter_sees_the_work_of_a_process() {
        let pid = std::process::id();
        let meter = Meter::start(pid).unwrap();
        let start_ns = cpu::thread_cpu_ns();
        while cpu::thread_cpu_ns() - start_ns < 1_000_000 {
            std::hint::spin_loop();
        }
        let cost = meter.stop(1, 0, 3).unwrap();
        assert!(cost.server_cpu_ns >= 1_000_000, "{cost:?}");
        assert!(cost.elapsed_ns >= 1_000_000 && cost.machine_max_ns >= cost.elapsed_ns);
        assert_eq!((cost.requests, cost.reply_segments), (1, 3));
    }
}
