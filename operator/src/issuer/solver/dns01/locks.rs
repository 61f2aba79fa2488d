//! Locks for what a provider reads and writes as one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use hickory_proto::rr::Name;

/// The credentials that are used, without them: a hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct AccountId(String);

impl AccountId {
    /// `parts` are the provider and everything that is given to it.
    pub(super) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let hash = context.finish();
        let mut hex = String::new();
        hex.extend(hash.as_ref().iter().map(|byte| format!("{byte:02x}")));
        Self(hex)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Names a lock: an account, and a record set or zone in it. A provider that is slow for one account
/// does not hold up another.
type Unit = (AccountId, Name);

/// The locks of all Issuers together: two of them may use one account.
#[derive(Debug, Default)]
pub(in super::super) struct RecordLocks(Mutex<HashMap<Unit, Weak<tokio::sync::Mutex<()>>>>);

impl RecordLocks {
    pub(super) fn of(&self, account: &AccountId, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unit = (account.clone(), name.clone());
        if let Some(lock) = locks.get(&unit).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(unit, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn account(parts: &[&str]) -> AccountId {
        AccountId::of(parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn locks_are_shared_while_they_are_held_and_then_forgotten() {
        let locks = RecordLocks::default();
        let [a, b] = ["a.test.", "b.test."].map(|name| Name::from_ascii(name).unwrap());
        let one = account(&["pdns", "key"]);
        let first = locks.of(&one, &a);
        assert!(Arc::ptr_eq(&first, &locks.of(&account(&["pdns", "key"]), &a)));
        drop(first);
        let _b = locks.of(&one, &b);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn another_account_has_another_lock_for_the_same_record() {
        let locks = RecordLocks::default();
        let name = Name::from_ascii("a.test.").unwrap();
        let (ours, theirs) = (account(&["pdns", "key"]), account(&["pdns", "other"]));
        assert_ne!(account(&["ab", "c"]), account(&["a", "bc"]));
        let held = locks.of(&ours, &name);
        let _guard = held.try_lock().unwrap();
        assert!(locks.of(&theirs, &name).try_lock().is_ok());
    }
}
