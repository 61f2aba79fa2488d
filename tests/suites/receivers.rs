//! Other people's receivers: what they make of what they are sent.
