//! When to raise the alarm, and where to send it: `AlertPolicy` and `ClusterAlertPolicy`.
//!
//! From a message to the wire: [`target`] reads where to, [`format`] says what in the receiver's language with [`words`],
//! [`sign`] signs it, [`send`] sends it, [`failure`] tells what went wrong.

pub mod message;

// From a message to the wire.
pub mod failure;
pub mod format;
pub mod send;
pub mod sign;
pub mod target;
mod words;
