//! Calls models. A provider puts a request on its way, reads what comes back piece by piece, and says what class of
//! thing went wrong. It never tries again by itself: that is a decision, and decisions are the kernel's.
//!
//! How an API says it is left to `dialects`; which offer is asked is left to `placement`.

pub mod config;
pub mod kind;
pub mod compatible;
mod reply;
mod trouble;
pub mod rehearsal;
pub mod found;
pub mod ourselves;
