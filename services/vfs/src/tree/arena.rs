//! Storage for the tree's parts: values in slots, named by small numbers whose type says what they name.
//!
//! An arena notes which slots may have changed, so that what is published of them can be brought up to date.

use std::{
    marker::PhantomData,
    ops::{Index, IndexMut},
};

/// A number that names a slot of one kind of arena.
pub trait Key: Copy {
    /// From a slot's index.
    fn new(index: u32) -> Self;
    /// The slot's index.
    fn index(self) -> usize;
}

/// The storage. A key stays good until its value is removed; the tree's reference counts see to it that nobody keeps one longer.
#[derive(Debug)]
pub struct Arena<K, T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    serial: u64,
    changed: Vec<u32>,
    key: PhantomData<K>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    /// Different for every value that was ever stored in the arena.
    serial: u64,
    /// It is among the changed ones.
    is_changed: bool,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Arena { slots: Vec::new(), free: Vec::new(), serial: 0, changed: Vec::new(), key: PhantomData }
    }
}

impl<K: Key, T> Arena<K, T> {
    /// Stores a value.
    pub fn insert(&mut self, value: T) -> K {
        self.serial += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { value: None, serial: 0, is_changed: false });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        slot.serial = self.serial;
        K::new(index)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let value = self.slots.get_mut(key.index())?.value.take();
        if value.is_some() {
            self.free.push(key.index() as u32);
            self.touch(key);
        }
        value
    }

    /// The value, if the slot is taken.
    pub fn get(&self, key: K) -> Option<&T> {
        self.slots.get(key.index())?.value.as_ref()
    }

    /// Everything stored.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| Some((K::new(index), slot.value.as_ref()?)))
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The serial number (from 1 on) of what is in a slot; `None` if it is empty.
    pub fn serial(&self, index: usize) -> Option<u64> {
        let slot = self.slots.get(index)?;
        slot.value.as_ref().map(|_| slot.serial)
    }

    /// Notes a slot as changed.
    pub fn touch(&mut self, key: K) {
        if let Some(slot) = self.slots.get_mut(key.index())
            && !std::mem::replace(&mut slot.is_changed, true)
        {
            self.changed.push(key.index() as u32);
        }
    }

    /// Replaces `into` by the slots that may have changed since the last call.
    pub fn take_changed(&mut self, into: &mut Vec<u32>) {
        into.clear();
        std::mem::swap(into, &mut self.changed);
        into.iter().for_each(|index| self.slots[*index as usize].is_changed = false);
    }
}

impl<K: Key, T> Index<K> for Arena<K, T> {
    type Output = T;
    fn index(&self, key: K) -> &T {
        self.slots[key.index()].value.as_ref().expect("a key outlived its value")
    }
}

impl<K: Key, T> IndexMut<K> for Arena<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.touch(key);
        self.slots[key.index()].value.as_mut().expect("a key outlived its value")
    }
}
