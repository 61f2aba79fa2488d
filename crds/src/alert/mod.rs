//! `AlertPolicy` and `ClusterAlertPolicy`: when to raise the alarm, and where to send it.

mod receiver;
mod rules;
mod spec;
mod status;

pub use receiver::{Format, Receiver, Webhook};
pub use rules::{Expiring, NotReady, RenewalFailed, Renewed, Rules, Severity, Switch, Threshold};
pub use spec::{AlertPolicy, AlertPolicySpec, ClusterAlertPolicy, ClusterAlertPolicySpec};
pub use status::{AlertKind, AlertPolicyStatus, FiringAlert, ReceiverStatus, Rule, TestResult, TestStatus};
