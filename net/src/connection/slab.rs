//! Connections by index, with generations: a late completion or message for a slot's former
//! tenant finds nobody. Insert, remove and look-up take constant time; the slab never shrinks.

use pinion_ring::Key;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

/// A slab of `T`s.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// An empty slab that takes `count` tenants without moving those that it has: address space,
    /// of which only the part in use takes memory.
    pub fn with_capacity(count: usize) -> Slab<T> {
        Slab { slots: Vec::with_capacity(count), free: Vec::with_capacity(count) }
    }

    /// Places so far, with a tenant or without; indices are below this.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Number of tenants.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no tenant.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts in what `make` makes for its key.
    pub fn insert(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, tenant: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let key = Key::new(index, slot.generation);
        slot.tenant = Some(make(key));
        key
    }

    /// The tenant under a key, if it is still the same.
    pub fn find(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.tenant.as_mut() } else { None }
    }

    /// The tenant at an index, whoever it is.
    pub fn at(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.tenant.as_mut()
    }

    /// Takes the tenant out; its key is dead from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let tenant = slot.tenant.take()?;
        slot.generation = Key::new(0, slot.generation.wrapping_add(1)).generation;
        self.free.push(key.index);
        Some(tenant)
    }

    /// All tenants.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.tenant.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_does_not_answer_to_its_old_key() {
        let mut slab = Slab::default();
        let first = slab.insert(|key| key.index);
        let second = slab.insert(|key| key.index);
        assert_eq!((slab.len(), slab.remove(first)), (2, Some(0)));
        assert_eq!(slab.remove(first), None);
        let third = slab.insert(|_| 7);
        assert_eq!((third.index, slab.find(third).copied()), (first.index, Some(7)));
        assert_eq!(slab.find(first), None);
        assert_eq!(slab.find(second).copied(), Some(1));
        assert_eq!(slab.iter_mut().count(), 2);
        assert!(slab.at(9).is_none() && !slab.is_empty());
    }

    #[test]
    fn generations_wrap_within_their_bits() {
        let mut slab = Slab::default();
        slab.slots.push(Slot { generation: (1 << Key::GENERATION_BITS) - 1, tenant: None });
        slab.free.push(0);
        let last = slab.insert(|_| ());
        slab.remove(last);
        assert_eq!(slab.insert(|_| ()).generation, 0);
    }
}
