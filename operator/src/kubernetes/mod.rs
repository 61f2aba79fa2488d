//! Access to the Kubernetes API: reading, writing, and leadership.
//!
//! - [`client`]: the connection; every request has a deadline.
//! - [`watch`]: watches that recover quickly, all in the same way.
//! - [`dependency`]: objects that others wait for, each watched by its name.
//! - [`leadership`]: of many processes one writes; a guard precedes each external write.
//! - [`apply`]: the one door through which objects are written.
//! - [`conditions`]: `status.conditions`, set purely.
//! - [`events`]: Events on the object that the user wrote.
//! - [`raw`]: the same on objects that cannot be decoded.
//! - [`names`]: the field manager, labels and annotations that users and other tools rely on.

pub mod apply;
pub mod client;
pub mod conditions;
pub mod controller;
pub mod dependency;
pub mod events;
pub mod leadership;
pub mod names;
pub mod observer;
pub mod store;
pub mod undecodable;
pub mod watch;
