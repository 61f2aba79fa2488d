mod accounts;
mod answers;
mod fake_ca;
mod faults;
mod keys;
mod limits;
mod orders;
mod readers;
