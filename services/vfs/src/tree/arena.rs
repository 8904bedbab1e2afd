//! Storage for the tree's parts: values in slots, named by small numbers whose type says what they name.

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
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Arena { slots: Vec::new(), free: Vec::new(), key: PhantomData }
    }
}

impl<K: Key, T> Arena<K, T> {
    /// Stores a value.
    pub fn insert(&mut self, value: T) -> K {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(value);
            return K::new(index);
        }
        self.slots.push(Some(value));
        K::new((self.slots.len() - 1) as u32)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let value = self.slots.get_mut(key.index())?.take();
        if value.is_some() {
            self.free.push(key.index() as u32);
        }
        value
    }

    /// The value, if the slot is taken.
    pub fn get(&self, key: K) -> Option<&T> {
        self.slots.get(key.index())?.as_ref()
    }

    /// Everything stored.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| Some((K::new(index), slot.as_ref()?)))
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<K: Key, T> Index<K> for Arena<K, T> {
    type Output = T;
    fn index(&self, key: K) -> &T {
        self.slots[key.index()].as_ref().expect("a key outlived its value")
    }
}

impl<K: Key, T> IndexMut<K> for Arena<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.slots[key.index()].as_mut().expect("a key outlived its value")
    }
}
