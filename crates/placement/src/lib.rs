//! Who should serve it: one pure function over the offers there are and what was seen of them.
//!
//! The words (`Ask`, `Plan`, `NoOffer`) are the kernel's, because the answer becomes a fact. Nothing here looks at
//! a clock, remembers anything, or knows a provider.

pub mod offers;
pub mod price;
pub mod place;
pub mod explain;
