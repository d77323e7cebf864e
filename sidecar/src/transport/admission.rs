//! How many connections there may be: of all, of one user, of one address.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::{config::Limits, connection::Seat};

/// Counts connections.
pub struct Admission {
    all_max: usize,
    user_max: usize,
    address_max: usize,
    // Held for a few additions only.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    users: HashMap<Arc<str>, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of all connections.
    #[error("the server has as many connections as it may: try again later")]
    All,
    /// Of the user's connections.
    #[error("you have as many connections as you may: close one")]
    User,
    /// Of the address's connections.
    #[error("your address has as many connections as it may: close one")]
    Address,
}

/// One connection's place. Dropping it gives the place back.
pub struct Place {
    admission: Arc<Admission>,
    user: Option<Arc<str>>,
    address: IpAddr,
}

impl Full {
    /// One word for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::User => "connections_per_user",
            Self::Address => "connections_per_address",
        }
    }
}

impl Admission {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            all_max: limits.connections_max,
            user_max: limits.connections_per_user_max,
            address_max: limits.connections_per_address_max,
            counts: Mutex::default(),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// Which limit was reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr, user: Option<&Arc<str>>) -> Result<Place, Full> {
        // An IPv4 caller on an IPv6 socket is the same caller.
        let address = address.to_canonical();
        let mut counts = self.counts.lock();
        if counts.all >= self.all_max {
            return Err(Full::All);
        }
        if counts.addresses.get(&address).is_some_and(|&count| count >= self.address_max) {
            return Err(Full::Address);
        }
        if user.is_some_and(|user| !self.user_has_room(&counts, user)) {
            return Err(Full::User);
        }
        counts.all += 1;
        add(&mut counts.addresses, address);
        if let Some(user) = user {
            add(&mut counts.users, Arc::clone(user));
        }
        drop(counts);
        Ok(Place { admission: Arc::clone(self), user: user.cloned(), address })
    }

    fn user_has_room(&self, counts: &Counts, user: &str) -> bool {
        counts.users.get(user).is_none_or(|&count| count < self.user_max)
    }
}

impl Seat for Place {
    fn change_user(&mut self, user: Option<&Arc<str>>) -> bool {
        if self.user.as_ref() == user {
            return true;
        }
        let mut counts = self.admission.counts.lock();
        if user.is_some_and(|user| !self.admission.user_has_room(&counts, user)) {
            return false;
        }
        if let Some(old) = self.user.take() {
            remove(&mut counts.users, &old);
        }
        if let Some(user) = user {
            add(&mut counts.users, Arc::clone(user));
            self.user = Some(Arc::clone(user));
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock();
        counts.all -= 1;
        remove(&mut counts.addresses, &self.address);
        if let Some(user) = &self.user {
            remove(&mut counts.users, user);
        }
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn remove<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(all_max: usize, user_max: usize, address_max: usize) -> Arc<Admission> {
        Arc::new(Admission { all_max, user_max, address_max, counts: Mutex::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_limit_has_its_name_and_places_come_back() {
        let admission = admission(3, 2, 2);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let one = admission.admit(address("10.0.0.1"), Some(&ann)).expect("room");
        let two = admission.admit(address("::ffff:10.0.0.1"), Some(&ann)).expect("room");
        assert_eq!(admission.admit(address("10.0.0.1"), Some(&bob)).err(), Some(Full::Address));
        assert_eq!(admission.admit(address("10.0.0.2"), Some(&ann)).err(), Some(Full::User));
        let three = admission.admit(address("10.0.0.2"), None).expect("room");
        assert_eq!(admission.admit(address("10.0.0.3"), None).err(), Some(Full::All));
        drop((one, two, three));
        let counts = admission.counts.lock();
        assert_eq!((counts.all, counts.users.len(), counts.addresses.len()), (0, 0, 0));
    }

    #[test]
    fn a_new_token_moves_the_place_to_its_user() {
        let admission = admission(9, 1, 9);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let mut first = admission.admit(address("10.0.0.1"), None).expect("room");
        let _second = admission.admit(address("10.0.0.1"), Some(&ann)).expect("room");
        assert!(!first.change_user(Some(&ann)));
        assert!(first.change_user(Some(&bob)));
        assert!(first.change_user(Some(&bob)));
        drop(first);
        assert_eq!(admission.counts.lock().users.len(), 1);
    }
}
