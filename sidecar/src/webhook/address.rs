//! Which addresses may be asked. A webhook's url is data: whoever may write one must not reach what only we can reach.
//!
//! It is the address that is connected to that is judged, never a name: names are looked up by [`GuardedResolver`], which
//! gives the connector none but allowed addresses, so it does not matter what the same name meant a moment ago.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Networks of IPv4 that are nobody's public host (IANA's special-purpose registry), and Azure's metadata address.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([168, 63, 129, 16], 32),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// All public hosts of IPv6. What embeds an IPv4 address outside of it (mapped, compatible, NAT64) is not among them.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);

/// The parts of it that are no public hosts: Teredo and other protocols, documentation, 6to4.
const SPECIAL_V6: [Ipv6Net; 4] =
    [v6([0x2001, 0], 23), v6([0x2001, 0xdb8], 32), v6([0x2002, 0], 16), v6([0x3fff, 0], 20)];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6([a, b]: [u16; 2], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits)
}

/// An address that may not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a public address; if it is meant, add its network to webhooks.allow")]
pub(super) struct Refused(pub(super) IpAddr);

/// Judges addresses.
#[derive(Clone, Debug)]
pub(super) struct AddressPolicy {
    allow: Vec<IpNet>,
}

impl AddressPolicy {
    /// Public addresses and these networks.
    pub(super) fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Whether this address may be asked.
    pub(super) fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let is_allowed = is_public(address) || self.allow.iter().any(|network| network.contains(&address));
        if is_allowed { Ok(()) } else { Err(Refused(address)) }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// Addresses of a name, when they are there.
pub(super) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Finds the addresses of a name.
pub(super) trait Lookup: Send + Sync + 'static {
    /// Looks a name up.
    fn lookup(&self, host: &str) -> Looking;
}

/// As the machine does it.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str) -> Looking {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// Gives a connector the allowed ones among a name's addresses.
pub(super) struct GuardedResolver {
    lookup: Box<dyn Lookup>,
    policy: Arc<AddressPolicy>,
}

impl GuardedResolver {
    pub(super) fn new(lookup: Box<dyn Lookup>, policy: Arc<AddressPolicy>) -> Self {
        Self { lookup, policy }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (looking, policy) = (self.lookup.lookup(name.as_str()), Arc::clone(&self.policy));
        Box::pin(async move {
            let found = looking.await?;
            let allowed: Vec<_> = found.iter().filter(|address| policy.judge(**address).is_ok()).collect();
            if let (Some(refused), true) = (found.first(), allowed.is_empty()) {
                return Err(Refused(*refused).into());
            }
            let addresses: Vec<_> = allowed.into_iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
