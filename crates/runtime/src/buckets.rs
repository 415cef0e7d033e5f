//! A set of buckets: the sessions a node looks after are those whose bucket is in its set.

use std::fmt;

use everstate_kernel::ids::{BUCKETS, SessionId};

const WORDS: usize = BUCKETS as usize / 64;

/// Some of the 1,024 buckets, or all of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Buckets([u64; WORDS]);

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets::none()
    }
}

impl Buckets {
    pub const fn none() -> Buckets {
        Buckets([0; WORDS])
    }

    /// What a node owns that is alone.
    pub const fn all() -> Buckets {
        Buckets([u64::MAX; WORDS])
    }

    /// Numbers beyond the last bucket are not taken in.
    pub fn insert(&mut self, bucket: u16) {
        if let Some(word) = self.0.get_mut(usize::from(bucket) / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    pub fn remove(&mut self, bucket: u16) {
        if let Some(word) = self.0.get_mut(usize::from(bucket) / 64) {
            *word &= !(1 << (bucket % 64));
        }
    }

    pub fn has(&self, bucket: u16) -> bool {
        self.0.get(usize::from(bucket) / 64).is_some_and(|it| it & (1 << (bucket % 64)) != 0)
    }

    /// Is this session's bucket among them?
    pub fn hold(&self, session: SessionId) -> bool {
        self.has(session.bucket())
    }

    pub fn is_all(&self) -> bool {
        *self == Buckets::all()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|it| it.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        *self == Buckets::none()
    }

    pub fn union(&self, others: &Buckets) -> Buckets {
        Buckets(std::array::from_fn(|it| self.0[it] | others.0[it]))
    }

    pub fn without(&self, others: &Buckets) -> Buckets {
        Buckets(std::array::from_fn(|it| self.0[it] & !others.0[it]))
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..BUCKETS).filter(|it| self.has(*it))
    }
}

impl FromIterator<u16> for Buckets {
    fn from_iter<T: IntoIterator<Item = u16>>(buckets: T) -> Buckets {
        let mut set = Buckets::none();
        buckets.into_iter().for_each(|it| set.insert(it));
        set
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buckets({} of {BUCKETS})", self.len())
    }
}
