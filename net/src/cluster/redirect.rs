//! Whether a core serves a command, by the slots of its keys, and what it answers if not: as a
//! node of a Redis cluster whose slots never move.
//!
//! Cost: the slots are looked at once; a refusal allocates its text.

use pinion_router::{Slot, core_of_slot};

use super::ClusterView;

/// Why a core does not serve a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Its keys belong to more than one slot.
    CrossSlot,
    /// Its slot belongs to another core.
    Moved(Slot),
}

impl Redirect {
    /// The error, as Redis words it, for a client that is told this host.
    #[must_use]
    pub fn text(self, view: &ClusterView, host: &str) -> String {
        match self {
            Redirect::CrossSlot => {
                "CROSSSLOT Keys in request don't hash to the same slot".to_owned()
            }
            Redirect::Moved(slot) => {
                let port = view.port_of(core_of_slot(slot, view.cores));
                format!("MOVED {slot} {host}:{port}")
            }
        }
    }
}

impl ClusterView {
    /// Looks whether the core serves a command whose keys belong to these slots: the slot of all of
    /// them, `None` without keys.
    ///
    /// # Errors
    /// Why it does not.
    pub fn place(&self, slots: impl IntoIterator<Item = Slot>) -> Result<Option<Slot>, Redirect> {
        let mut slots = slots.into_iter();
        let Some(slot) = slots.next() else { return Ok(None) };
        if slots.any(|other| other != slot) {
            return Err(Redirect::CrossSlot);
        }
        if self.redirects && core_of_slot(slot, self.cores) != self.core {
            return Err(Redirect::Moved(slot));
        }
        Ok(Some(slot))
    }
}

/// The error that answers a command with keys of these slots; `None` if the core serves it.
#[must_use]
pub fn redirect(
    view: &ClusterView,
    host: &str,
    slots: impl IntoIterator<Item = Slot>,
) -> Option<String> {
    view.place(slots).err().map(|redirect| redirect.text(view, host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_router::{CoreCount, CoreIndex, slot, slots_of_core};

    fn view(cores: usize, core: u16) -> ClusterView {
        let cores = CoreCount::new(cores).expect("a count");
        let view = ClusterView::new(cores, 7000, None, "here").expect("ports");
        view.of(CoreIndex::new(core))
    }

    fn answer(view: &ClusterView, keys: &[&[u8]]) -> Option<String> {
        redirect(view, "10.0.0.1", keys.iter().map(|key| slot(key)))
    }

    #[test]
    fn keys_of_other_cores_are_sent_there() {
        // bar has slot 5061, foo 12182: of the first and second half.
        let [low, high] = [view(2, 0), view(2, 1)];
        assert_eq!(answer(&low, &[]), None);
        assert_eq!(answer(&low, &[b"bar", b"{bar}1", b"bar"]), None);
        assert_eq!(answer(&low, &[b"foo"]).as_deref(), Some("MOVED 12182 10.0.0.1:7001"));
        assert_eq!(answer(&high, &[b"foo"]), None);
        assert_eq!(answer(&high, &[b"bar"]).as_deref(), Some("MOVED 5061 10.0.0.1:7000"));
        let crossed = Some("CROSSSLOT Keys in request don't hash to the same slot");
        // Two slots are too many whoever owns them.
        assert_eq!(answer(&low, &[b"bar", b"hello"]).as_deref(), crossed);
        assert_eq!(answer(&low, &[b"foo", b"bar"]).as_deref(), crossed);
        assert_eq!(answer(&view(1, 0), &[b"foo", b"bar"]).as_deref(), crossed);
        assert_eq!(redirect(&low, "::1", [slot(b"foo")]).as_deref(), Some("MOVED 12182 ::1:7001"));
    }

    #[test]
    fn a_node_that_does_not_redirect_serves_other_slots_and_refuses_two() {
        let view = ClusterView { redirects: false, ..view(2, 0) };
        assert_eq!(view.place([slot(b"foo")]), Ok(Some(slot(b"foo"))));
        assert_eq!(view.place([slot(b"foo"), slot(b"bar")]), Err(Redirect::CrossSlot));
    }

    #[test]
    fn every_slot_is_served_by_one_core_and_found_from_all() {
        for cores in [1, 2, 3, 64] {
            let views: Vec<ClusterView> = (0..cores as u16).map(|core| view(cores, core)).collect();
            for slot in Slot::all() {
                let serving = views.iter().filter(|view| view.place([slot]).is_ok());
                let serving: Vec<&ClusterView> = serving.collect();
                assert_eq!(serving.len(), 1, "slot {slot} of {cores} cores");
                let owner = serving[0];
                assert!(slots_of_core(owner.core, owner.cores).contains(&slot.number()));
                let text = format!("MOVED {slot} h:{}", owner.port());
                for view in views.iter().filter(|view| view.core != owner.core) {
                    assert_eq!(redirect(view, "h", [slot]).as_deref(), Some(text.as_str()));
                }
            }
        }
    }
}
