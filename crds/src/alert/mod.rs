//! `AlertPolicy` and `ClusterAlertPolicy`: when alerts fire, and where they are sent.

mod receiver;
mod rules;
mod spec;
mod status;

pub use receiver::{Format, Receiver, Webhook};
pub use rules::{Expiring, NotReady, RenewalFailed, Renewed, Rules, Severity, Switch, Threshold};
pub use spec::{AlertPolicy, AlertPolicySpec, ClusterAlertPolicy, ClusterAlertPolicySpec};
pub use status::{AlertKind, AlertPolicyStatus, FiringAlert, ReceiverStatus, Rule, TestResult, TestStatus};
