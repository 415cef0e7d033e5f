//! The checker itself: it believes every story of a log, and none of the others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod story;
mod believes;
mod brute;
mod doctored;
