use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::address::{Network, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Every address that the host has just now.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// A host has addresses, and none of them may be gone to. It does not say
/// which they are: that is nobody's business outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the host has no address on the public Internet")]
pub struct NotPublic;

/// Whether a request failed because its host has no public address.
pub fn leads_nowhere_public(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Gives an HTTP client those addresses of a host that are public, and those
/// in networks that were opened. The client connects to what it is given and
/// asks no second time, so a name that changes its mind gains nothing.
///
/// An HTTP client does not ask for the addresses of a host that is an address
/// itself: [`GuardedClient`](crate::GuardedClient) refuses those.
#[derive(Clone, Debug)]
pub struct GuardedResolver {
    names: Arc<dyn Resolver>,
    open_networks: Arc<[Network]>,
}

impl GuardedResolver {
    /// Guards a resolver. `open_networks` may be gone to though they are not
    /// public.
    pub fn new(names: Arc<dyn Resolver>, open_networks: &[Network]) -> Self {
        Self {
            names,
            open_networks: open_networks.into(),
        }
    }

    /// The addresses of a host that may be gone to.
    ///
    /// # Errors
    /// [`NotPublic`] if there are none among those that it has; otherwise
    /// whatever the resolver says.
    pub async fn permitted(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>> {
        let found = self.names.addresses(host).await?;
        if found.is_empty() {
            return Err(Box::new(io::Error::other("the host has no address")));
        }
        let permitted: Vec<_> = found
            .into_iter()
            .filter(|address| self.permits(*address))
            .collect();
        if permitted.is_empty() {
            return Err(Box::new(NotPublic));
        }
        Ok(permitted)
    }

    fn permits(&self, address: IpAddr) -> bool {
        let opened = |network: &Network| network.contains(address);
        is_public(address) || self.open_networks.iter().any(opened)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let permitted = guard.permitted(name.as_str()).await?;
            // Port 0 stands for the one in the address.
            let addresses = permitted.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Gives one answer after the other, the first one first.
    #[derive(Debug)]
    struct Fickle(Mutex<Vec<&'static [&'static str]>>);

    impl Fickle {
        fn new(answers: &[&'static [&'static str]]) -> Arc<Self> {
            let answers = answers.iter().rev().copied().collect();
            Arc::new(Self(Mutex::new(answers)))
        }
    }

    #[async_trait]
    impl Resolver for Fickle {
        async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            let answer = self.0.lock().unwrap().pop().unwrap();
            Ok(answer.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    fn strings(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn only_public_addresses_are_handed_on() {
        let names = Fickle::new(&[&["10.0.0.1", "93.184.215.14", "::1", "2606:4700::1111"]]);

        let permitted = GuardedResolver::new(names, &[]).permitted("host").await;

        assert_eq!(
            strings(&permitted.unwrap()),
            ["93.184.215.14", "2606:4700::1111"]
        );
    }

    #[tokio::test]
    async fn a_name_that_turns_private_is_refused_from_then_on() {
        let names = Fickle::new(&[&["93.184.215.14"], &["127.0.0.1", "::ffff:10.0.0.1"]]);
        let guard = GuardedResolver::new(names, &[]);

        assert!(guard.permitted("host").await.is_ok());
        let refusal = guard.permitted("host").await.unwrap_err();

        assert!(refusal.is::<NotPublic>());
        assert!(!refusal.to_string().contains("127"), "{refusal}");
    }

    #[tokio::test]
    async fn an_opened_network_is_permitted_and_its_neighbours_are_not() {
        let names = Fickle::new(&[&["10.2.0.1", "10.3.0.1"]]);
        let open = ["10.2.0.0/16".parse().unwrap()];

        let permitted = GuardedResolver::new(names, &open).permitted("host").await;

        assert_eq!(strings(&permitted.unwrap()), ["10.2.0.1"]);
    }

    #[tokio::test]
    async fn a_host_without_an_address_is_not_called_private() {
        let names = Fickle::new(&[&[]]);

        let refusal = GuardedResolver::new(names, &[]).permitted("host").await;

        assert!(!refusal.unwrap_err().is::<NotPublic>());
    }
}
