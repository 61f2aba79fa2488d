//! The client against a scripted CA on 127.0.0.1, which fails in every way that servers do.

mod accounts;
mod fake_ca;
mod faults;
mod limits;
mod orders;
