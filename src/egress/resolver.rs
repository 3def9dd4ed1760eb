//! Names to checked addresses.
//!
//! Owns: the only way from a name to an address. A connection is made to what this returns and to nothing else, so a name
//! that resolves differently a moment later changes nothing.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::egress::address::may_reach;

/// Names of one tenant that are looked up at once. The system's resolver cannot be cancelled, and each look-up that hangs
/// holds a thread.
const LOOKUPS_MAX: usize = 8;

/// Addresses that are kept of one name.
const ADDRESSES_MAX: usize = 16;

/// All addresses of a name are ones that scripts may not reach.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address that scripts may reach")]
pub(super) struct AddressRefused;

/// Resolves for one tenant.
pub(super) struct CheckedResolver {
    listed: Arc<[IpNet]>,
    lookups: Arc<Semaphore>,
}

impl CheckedResolver {
    pub(super) fn new(listed: Arc<[IpNet]>) -> Self {
        Self { listed, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (listed, lookups) = (Arc::clone(&self.listed), Arc::clone(&self.lookups));
        Box::pin(async move {
            let permit = lookups.acquire_owned().await?;
            let found = tokio::task::spawn_blocking(move || {
                let _permit = permit; // until the thread is free again, even if nobody waits for it any more
                (name.as_str(), 0).to_socket_addrs().map(|found| (name, found.collect::<Vec<SocketAddr>>()))
            });
            let (name, found) = found.await??;
            let mut allowed: Vec<_> =
                found.iter().copied().filter(|address| may_reach(address.ip(), &listed)).collect();
            allowed.truncate(ADDRESSES_MAX);
            if allowed.is_empty() && !found.is_empty() {
                tracing::warn!(
                    server.name = name.as_str(), server.addresses = ?found,
                    "a script asked for a name that resolves to addresses which are not listed"
                );
                return Err(AddressRefused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
