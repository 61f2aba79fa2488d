//! placeholder until the solver's types are merged
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
/// One way to prove names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AcmeSolver {}
