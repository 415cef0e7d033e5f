//! Placement through its door: scenarios as text, and promises over generated questions.

mod read;
mod choices;
mod promises;
