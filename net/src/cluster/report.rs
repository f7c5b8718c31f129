//! CLUSTER SLOTS, SHARDS, NODES and INFO, in the form of Redis 7.2.
//!
//! What Redis tells of a bus between the nodes is left out or told as nothing happening: cores do
//! not send each other cluster messages. A node's epoch is its place among the cores, from 1, so
//! that no two are the same, as in a Redis cluster that was just created. Where Redis has the port
//! of its bus, the port itself stands.

use std::fmt::Write;

use pinion_router::{CoreIndex, SLOT_COUNT, slots_of_core};

use super::ClusterView;
use crate::protocol::resp::Writer;

impl ClusterView {
    /// The first and the last slot of a core.
    fn range_of(&self, core: CoreIndex) -> (u16, u16) {
        let slots = slots_of_core(core, self.cores);
        (slots.start, slots.end.saturating_sub(1))
    }

    fn epoch_of(core: CoreIndex) -> usize {
        core.index() + 1
    }

    /// CLUSTER SLOTS: the range of each core, and the node that has it, with an empty map of
    /// further addresses.
    pub fn write_slots(&self, host: &str, reply: &mut Writer<'_>) {
        reply.array(usize::from(self.cores.count()));
        for core in self.cores.indices() {
            let (first, last) = self.range_of(core);
            reply.array(3);
            reply.integer(i64::from(first));
            reply.integer(i64::from(last));
            reply.array(4);
            reply.bulk(host.as_bytes());
            reply.integer(i64::from(self.port_of(core)));
            reply.bulk(self.node_id(core).as_bytes());
            reply.map(0);
        }
    }

    /// CLUSTER SHARDS: a map for each core with its range and its one node.
    pub fn write_shards(&self, host: &str, reply: &mut Writer<'_>) {
        reply.array(usize::from(self.cores.count()));
        for core in self.cores.indices() {
            let (first, last) = self.range_of(core);
            reply.map(2);
            reply.bulk(b"slots");
            reply.array(2);
            reply.integer(i64::from(first));
            reply.integer(i64::from(last));
            reply.bulk(b"nodes");
            reply.array(1);
            reply.map(7);
            reply.bulk(b"id");
            reply.bulk(self.node_id(core).as_bytes());
            reply.bulk(b"port");
            reply.integer(i64::from(self.port_of(core)));
            for (name, text) in [("ip", host), ("endpoint", host), ("role", "master")] {
                reply.bulk(name.as_bytes());
                reply.bulk(text.as_bytes());
            }
            reply.bulk(b"replication-offset");
            reply.integer(0);
            reply.bulk(b"health");
            reply.bulk(b"online");
        }
    }

    /// CLUSTER NODES: a line for each core.
    #[must_use]
    pub fn nodes(&self, host: &str) -> String {
        let mut text = String::new();
        for core in self.cores.indices() {
            let (first, last) = self.range_of(core);
            let (id, port, epoch) = (self.node_id(core), self.port_of(core), Self::epoch_of(core));
            let flags = if core == self.core { "myself,master" } else { "master" };
            // Writing to a String does not fail.
            let _ = write!(text, "{id} {host}:{port}@{port} {flags} - 0 0 {epoch} connected ");
            let _ = match first == last {
                true => writeln!(text, "{first}"),
                false => writeln!(text, "{first}-{last}"),
            };
        }
        text
    }

    /// CLUSTER INFO.
    #[must_use]
    pub fn info(&self) -> String {
        let (cores, epoch) = (self.cores, Self::epoch_of(self.core));
        format!(
            "cluster_state:ok\r\n\
             cluster_slots_assigned:{SLOT_COUNT}\r\n\
             cluster_slots_ok:{SLOT_COUNT}\r\n\
             cluster_slots_pfail:0\r\n\
             cluster_slots_fail:0\r\n\
             cluster_known_nodes:{cores}\r\n\
             cluster_size:{cores}\r\n\
             cluster_current_epoch:{cores}\r\n\
             cluster_my_epoch:{epoch}\r\n\
             cluster_stats_messages_sent:0\r\n\
             cluster_stats_messages_received:0\r\n\
             total_cluster_links_buffer_limit_exceeded:0\r\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use pinion_router::CoreCount;

    use super::*;
    use crate::protocol::resp::Version;

    fn view(cores: usize, core: u16) -> ClusterView {
        let cores = CoreCount::new(cores).expect("a count");
        let view = ClusterView::new(cores, 17_301, None, "here").expect("ports");
        view.of(CoreIndex::new(core))
    }

    fn written(version: Version, write: impl Fn(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, version));
        String::from_utf8(out).expect("ASCII")
    }

    /// The text of a reply with the names of nodes A and B in place of ours.
    fn renamed(view: &ClusterView, text: &str, ids: [&str; 2]) -> String {
        let [a, b] = [0, 1].map(|core| view.node_id(CoreIndex::new(core)).to_string());
        text.replace(&a, ids[0]).replace(&b, ids[1])
    }

    /// What two nodes of Redis 7.2.6 answered, each owning half of the slots.
    const A: &str = "9b7dafeca68518c692d94a73a01aeaa40b79abe6";
    const B: &str = "bee4d2710ce85348fa59586fb96825849a515dac";
    const SLOTS: &str = "*2\r\n*3\r\n:0\r\n:8191\r\n*4\r\n$9\r\n127.0.0.1\r\n:17301\r\n$40\r\n\
        9b7dafeca68518c692d94a73a01aeaa40b79abe6\r\n*0\r\n*3\r\n:8192\r\n:16383\r\n*4\r\n$9\r\n\
        127.0.0.1\r\n:17302\r\n$40\r\nbee4d2710ce85348fa59586fb96825849a515dac\r\n*0\r\n";
    /// One of the two maps of SHARDS in RESP3; Redis does not order them.
    const SHARD: &str = "%2\r\n$5\r\nslots\r\n*2\r\n:8192\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n%7\r\n\
        $2\r\nid\r\n$40\r\nbee4d2710ce85348fa59586fb96825849a515dac\r\n$4\r\nport\r\n:17302\r\n\
        $2\r\nip\r\n$9\r\n127.0.0.1\r\n$8\r\nendpoint\r\n$9\r\n127.0.0.1\r\n$4\r\nrole\r\n$6\r\n\
        master\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline\r\n";
    const NODES: &str = "9b7dafeca68518c692d94a73a01aeaa40b79abe6 127.0.0.1:17301@27301 \
        myself,master - 0 0 1 connected 0-8191\n\
        bee4d2710ce85348fa59586fb96825849a515dac 127.0.0.1:17302@27302 \
        master - 0 1795296051278 2 connected 8192-16383\n";
    const INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\n\
        cluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
        cluster_known_nodes:2\r\ncluster_size:2\r\ncluster_current_epoch:2\r\n\
        cluster_my_epoch:1\r\ncluster_stats_messages_ping_sent:3\r\n\
        cluster_stats_messages_pong_sent:4\r\ncluster_stats_messages_meet_sent:1\r\n\
        cluster_stats_messages_sent:8\r\ncluster_stats_messages_ping_received:4\r\n\
        cluster_stats_messages_pong_received:4\r\ncluster_stats_messages_received:8\r\n\
        total_cluster_links_buffer_limit_exceeded:0\r\n";

    #[test]
    fn slots_are_told_as_redis_tells_them() {
        let view = view(2, 0);
        let told = |version| written(version, |reply| view.write_slots("127.0.0.1", reply));
        assert_eq!(renamed(&view, &told(Version::Resp2), [A, B]), SLOTS);
        let resp3 = SLOTS.replace("*0\r\n", "%0\r\n");
        assert_eq!(renamed(&view, &told(Version::Resp3), [A, B]), resp3);
    }

    #[test]
    fn shards_are_told_as_redis_tells_them() {
        let view = view(2, 0);
        let told = |version| written(version, |reply| view.write_shards("127.0.0.1", reply));
        let first = SHARD.replace(":8192\r\n:16383", ":0\r\n:8191").replace("17302", "17301");
        let resp3 = format!("*2\r\n{}{SHARD}", first.replace(B, A));
        assert_eq!(renamed(&view, &told(Version::Resp3), [A, B]), resp3);
        let resp2 = resp3.replace("%2", "*4").replace("%7", "*14");
        assert_eq!(renamed(&view, &told(Version::Resp2), [A, B]), resp2);
    }

    #[test]
    fn nodes_are_told_as_redis_tells_them() {
        // Without a bus there are neither its ports nor the times of its messages.
        let golden = NODES.replace("@2", "@1").replace("1795296051278", "0");
        let first = view(2, 0);
        assert_eq!(renamed(&first, &first.nodes("127.0.0.1"), [A, B]), golden);
        let second = view(2, 1);
        let golden = golden.replace("myself,", "").replace("17302 master", "17302 myself,master");
        assert_eq!(renamed(&second, &second.nodes("127.0.0.1"), [A, B]), golden);
        assert!(first.nodes("::1").contains(" ::1:17302@17302 master "));
    }

    #[test]
    fn info_has_the_fields_of_redis_and_their_order() {
        let is_of_bus = |line: &&str| {
            line.starts_with("cluster_stats_messages_") && line.matches('_').count() > 3
        };
        let golden: Vec<&str> = INFO.lines().filter(|line| !is_of_bus(line)).collect();
        let told = view(2, 0).info();
        let still = golden.iter().map(|line| match line.split_once(":8") {
            Some((name, "")) => format!("{name}:0"),
            _ => (*line).to_owned(),
        });
        assert_eq!(told.lines().collect::<Vec<_>>(), still.collect::<Vec<_>>());
        assert!(told.ends_with("\r\n"));
        assert!(view(64, 9).info().contains("cluster_size:64\r\n"));
        assert!(view(64, 9).info().contains("cluster_my_epoch:10\r\n"));
    }

    #[test]
    fn ranges_are_contiguous_at_any_count() {
        for cores in [1, 3, 64, 16_384] {
            let view = ClusterView::new(CoreCount::new(cores).expect("a count"), 1, None, "here");
            let text = view.expect("ports").nodes("h");
            let mut next = 0;
            for line in text.lines() {
                let range = line.rsplit(' ').next().expect("a range");
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                assert_eq!(first.parse(), Ok(next), "{line}");
                next = last.parse::<u16>().expect("a slot") + 1;
                assert_eq!(line.split(' ').count(), 9, "{line}");
            }
            assert_eq!(next, SLOT_COUNT);
        }
    }
}
