//! A list without doubles: one value takes no allocation, and a long list
//! removes in constant time.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Values a list holds before it remembers where each one is.
const FEW_MAX: usize = 16;

/// Values in the order of their coming, except that a removed one's place is
/// taken by the last.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "8 bytes less for each of a million lone values")]
pub(crate) enum Values<T> {
    #[default]
    None,
    One(T),
    Few(Box<Vec<T>>),
    Many(Box<Many<T>>),
}

/// A list with an index over it.
#[derive(Debug)]
pub(crate) struct Many<T> {
    list: Vec<T>,
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl<T: Copy + Eq + Hash> Values<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Few(list) => list,
            Self::Many(many) => &many.list,
        }
    }

    /// Adds `value`. False when it is there already.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(other) if *other == value => return false,
            Self::One(other) => *self = Self::Few(Box::new(vec![*other, value])),
            Self::Few(list) if list.contains(&value) => return false,
            Self::Few(list) if list.len() < FEW_MAX => list.push(value),
            Self::Few(list) => {
                let mut many = Many::of(std::mem::take(&mut **list));
                many.insert(value);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => return many.insert(value),
        }
        true
    }

    /// Takes `value` out. False when it is not there.
    pub(crate) fn remove(&mut self, value: &T) -> bool {
        match self {
            Self::None => return false,
            Self::One(other) if other == value => *self = Self::None,
            Self::One(_) => return false,
            Self::Few(list) => match list.iter().position(|other| other == value) {
                Some(at) => {
                    list.swap_remove(at);
                }
                None => return false,
            },
            Self::Many(many) => {
                if !many.remove(value) {
                    return false;
                }
                // Well below the border, so that a list does not change its
                // form with every value that comes and goes.
                if many.list.len() <= FEW_MAX / 2 {
                    *self = Self::Few(Box::new(std::mem::take(&mut many.list)));
                }
            }
        }
        if let Self::Few(list) = self {
            match list[..] {
                [] => *self = Self::None,
                [last] => *self = Self::One(last),
                _ if list.capacity() > 2 * FEW_MAX => list.shrink_to(FEW_MAX),
                _ => {}
            }
        }
        true
    }
}

impl<T: Copy + Eq + Hash> Many<T> {
    fn of(list: Vec<T>) -> Self {
        let mut many =
            Self { list: Vec::new(), positions: HashTable::new(), hasher: RandomState::default() };
        for value in list {
            many.insert(value);
        }
        many
    }

    fn insert(&mut self, value: T) -> bool {
        let hash = self.hasher.hash_one(value);
        let (list, hasher) = (&mut self.list, &self.hasher);
        if self.positions.find(hash, |&at| list[at as usize] == value).is_some() {
            return false;
        }
        let at = u32::try_from(list.len()).expect("fewer than 2^32 values");
        list.push(value);
        self.positions.insert_unique(hash, at, |&at| hasher.hash_one(list[at as usize]));
        true
    }

    fn remove(&mut self, value: &T) -> bool {
        let hash = self.hasher.hash_one(value);
        let list = &mut self.list;
        let Ok(entry) = self.positions.find_entry(hash, |&at| list[at as usize] == *value) else {
            return false;
        };
        let (at, _) = entry.remove();
        let last = list.len() - 1;
        if at as usize != last {
            let moved = self.hasher.hash_one(list[last]);
            let position = self
                .positions
                .find_mut(moved, |&other| other as usize == last)
                .expect("every value has a position");
            *position = at;
        }
        list.swap_remove(at as usize);
        true
    }
}
