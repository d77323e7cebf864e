//! How many requests run, and where to: no host may take all places.

use std::collections::HashMap;

/// Requests that run now.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    host_max: usize,
    taken: usize,
    hosts: HashMap<String, usize>,
}

impl Places {
    /// Room for `max` requests, and `host_max` of each host.
    pub(super) fn new(max: usize, host_max: usize) -> Self {
        Self { max, host_max, taken: 0, hosts: HashMap::new() }
    }

    /// Requests that may be begun.
    pub(super) fn free(&self) -> usize {
        self.max.saturating_sub(self.taken)
    }

    /// Requests that each host may have.
    pub(super) fn host_max(&self) -> usize {
        self.host_max
    }

    /// Hosts that have some, with how many more they may have.
    pub(super) fn hosts(&self) -> Vec<(String, usize)> {
        let left = |(host, taken): (&String, &usize)| (host.clone(), self.host_max.saturating_sub(*taken));
        self.hosts.iter().map(left).collect()
    }

    /// Hosts that may have no more.
    pub(super) fn busy(&self) -> Vec<String> {
        let is_busy = |(_, taken): &(&String, &usize)| **taken >= self.host_max;
        self.hosts.iter().filter(is_busy).map(|(host, _)| host.clone()).collect()
    }

    /// A request is begun.
    pub(super) fn take(&mut self, host: &str) {
        self.taken += 1;
        *self.hosts.entry(host.to_owned()).or_default() += 1;
    }

    /// A request has ended.
    pub(super) fn give_back(&mut self, host: &str) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(taken) = self.hosts.get_mut(host) {
            *taken -= 1;
            if *taken == 0 {
                self.hosts.remove(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_all_and_for_each_host() {
        let mut places = Places::new(3, 2);
        places.take("a");
        places.take("a");
        places.take("b");
        assert_eq!(places.free(), 0);
        let mut hosts = places.hosts();
        hosts.sort();
        assert_eq!(hosts, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert_eq!(places.busy(), ["a"]);
        places.give_back("b");
        places.give_back("nobody");
        assert_eq!(places.hosts(), [("a".to_owned(), 0)]);
    }
}
