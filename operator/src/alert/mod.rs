//! When to raise the alarm, and where to send it: `AlertPolicy` and `ClusterAlertPolicy`.

pub mod message;
