//! Which Internet addresses this server may be sent to by what people type.
//!
//! Whoever may name an address that the server then asks something of could
//! name one that only the server reaches: its database, its neighbours, the
//! credentials that clouds hand out. The ranges are those of
//! `reference/platform/PROTOCOLS.md` section 8.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// What of the IPv4 space is not the public Internet: this network, private
/// and shared space, loopback, link-local, protocol assignments, examples,
/// relays, benchmarks, multicast and what is reserved.
const NOT_PUBLIC_V4: [Network; 15] = [
    Network::v4([0, 0, 0, 0], 8),
    Network::v4([10, 0, 0, 0], 8),
    Network::v4([100, 64, 0, 0], 10),
    Network::v4([127, 0, 0, 0], 8),
    Network::v4([169, 254, 0, 0], 16),
    Network::v4([172, 16, 0, 0], 12),
    Network::v4([192, 0, 0, 0], 24),
    Network::v4([192, 0, 2, 0], 24),
    Network::v4([192, 88, 99, 0], 24),
    Network::v4([192, 168, 0, 0], 16),
    Network::v4([198, 18, 0, 0], 15),
    Network::v4([198, 51, 100, 0], 24),
    Network::v4([203, 0, 113, 0], 24),
    Network::v4([224, 0, 0, 0], 4),
    Network::v4([240, 0, 0, 0], 4),
];

/// The part of the IPv6 space that public addresses are given out of. Nothing
/// else is public: loopback, discard, unique local, link-local, multicast.
const GIVEN_OUT_V6: Network = Network::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What of that part is not the public Internet: protocol assignments and
/// examples.
const NOT_PUBLIC_V6: [Network; 3] = [
    Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    Network::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    Network::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// IPv6 addresses that lead to an IPv4 address: mapped, translated, tunnelled.
const MAPPED: Network = Network::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const TRANSLATED: Network = Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const TUNNELLED: Network = Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

/// Whether an address belongs to the public Internet. An IPv6 address that
/// leads to an IPv4 address is judged by that one.
pub fn is_public(address: IpAddr) -> bool {
    match inner(address) {
        IpAddr::V4(_) => !is_in(&NOT_PUBLIC_V4, address),
        IpAddr::V6(_) => GIVEN_OUT_V6.contains(address) && !is_in(&NOT_PUBLIC_V6, address),
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Where an address leads in the end.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let bits = v6.to_bits();
    let last = Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32);
    let second = Ipv4Addr::from_bits((bits >> 80 & 0xffff_ffff) as u32);
    if MAPPED.holds(address) || TRANSLATED.holds(address) {
        IpAddr::V4(last)
    } else if TUNNELLED.holds(address) {
        IpAddr::V4(second)
    } else {
        address
    }
}

/// A range of addresses, written as `10.2.0.0/16` or `fd00:1::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// The text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidNetwork {
    /// It is not an address, a slash and a number of bits.
    #[error("a network is written as 10.2.0.0/16 or fd00:1::/64")]
    Form,
    /// The address goes on after the prefix, so that one of the two is a slip.
    #[error("the network begins before its address: write its first address")]
    NotItsFirst,
}

impl Network {
    const fn v4(first: [u8; 4], prefix: u8) -> Self {
        Self {
            first: IpAddr::V4(Ipv4Addr::from_octets(first)),
            prefix,
        }
    }

    const fn v6(first: [u16; 8], prefix: u8) -> Self {
        Self {
            first: IpAddr::V6(Ipv6Addr::from_segments(first)),
            prefix,
        }
    }

    /// Whether an address is in the range. An IPv6 address that leads to an
    /// IPv4 address is that one.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.holds(inner(address))
    }

    /// Whether an address as it stands is in the range.
    fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(32 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(128 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, prefix) = text.split_once('/').ok_or(InvalidNetwork::Form)?;
        let first: IpAddr = first.parse().map_err(|_no_address| InvalidNetwork::Form)?;
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidNetwork::Form);
        }
        let prefix: u8 = prefix.parse().map_err(|_no_number| InvalidNetwork::Form)?;
        let (bits, begins) = match first {
            IpAddr::V4(first) => (32, first.to_bits().trailing_zeros()),
            IpAddr::V6(first) => (128, first.to_bits().trailing_zeros()),
        };
        if u32::from(prefix) > bits {
            return Err(InvalidNetwork::Form);
        }
        if begins < bits - u32::from(prefix) {
            return Err(InvalidNetwork::NotItsFirst);
        }
        Ok(Self { first, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last address of each range, and the neighbours that
    /// are public; `None` where the neighbour is another range's or nobody's.
    const EDGES: &[(Option<&str>, &str, &str, Option<&str>)] = &[
        (None, "0.0.0.0", "0.255.255.255", Some("1.0.0.0")),
        (
            Some("9.255.255.255"),
            "10.0.0.0",
            "10.255.255.255",
            Some("11.0.0.0"),
        ),
        (
            Some("100.63.255.255"),
            "100.64.0.0",
            "100.127.255.255",
            Some("100.128.0.0"),
        ),
        (
            Some("126.255.255.255"),
            "127.0.0.0",
            "127.255.255.255",
            Some("128.0.0.0"),
        ),
        (
            Some("169.253.255.255"),
            "169.254.0.0",
            "169.254.255.255",
            Some("169.255.0.0"),
        ),
        (
            Some("172.15.255.255"),
            "172.16.0.0",
            "172.31.255.255",
            Some("172.32.0.0"),
        ),
        (
            Some("191.255.255.255"),
            "192.0.0.0",
            "192.0.0.255",
            Some("192.0.1.0"),
        ),
        (
            Some("192.0.1.255"),
            "192.0.2.0",
            "192.0.2.255",
            Some("192.0.3.0"),
        ),
        (
            Some("192.88.98.255"),
            "192.88.99.0",
            "192.88.99.255",
            Some("192.88.100.0"),
        ),
        (
            Some("192.167.255.255"),
            "192.168.0.0",
            "192.168.255.255",
            Some("192.169.0.0"),
        ),
        (
            Some("198.17.255.255"),
            "198.18.0.0",
            "198.19.255.255",
            Some("198.20.0.0"),
        ),
        (
            Some("198.51.99.255"),
            "198.51.100.0",
            "198.51.100.255",
            Some("198.51.101.0"),
        ),
        (
            Some("203.0.112.255"),
            "203.0.113.0",
            "203.0.113.255",
            Some("203.0.114.0"),
        ),
        (
            Some("223.255.255.255"),
            "224.0.0.0",
            "239.255.255.255",
            None,
        ),
        (None, "240.0.0.0", "255.255.255.255", None),
        (None, "::", "::1", None),
        (
            None,
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
        (None, "100::", "100::ffff:ffff:ffff:ffff", None),
        (
            Some("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2001::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2001:200::"),
        ),
        (
            Some("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2001:db9::"),
        ),
        (
            Some("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("3fff:1000::"),
        ),
        (
            Some("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "4000::",
            "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
        (
            None,
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
        (
            None,
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
        (
            None,
            "fec0::",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
        (
            None,
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
        ),
    ];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn in_v6(v4: Ipv4Addr) -> [String; 3] {
        let [a, b, c, d] = v4.octets();
        [
            format!("::ffff:{v4}"),
            format!("64:ff9b::{v4}"),
            format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
        ]
    }

    #[test]
    fn every_range_ends_where_it_ends() {
        for &(before, first, last, after) in EDGES {
            for inside in [first, last] {
                assert!(!is_public(address(inside)), "{inside}");
            }
            for outside in [before, after].into_iter().flatten() {
                assert!(is_public(address(outside)), "{outside}");
            }
        }
    }

    #[test]
    fn what_leads_to_an_ipv4_address_is_judged_by_it() {
        for &(before, first, last, after) in EDGES {
            for (text, public) in [
                (before, true),
                (Some(first), false),
                (Some(last), false),
                (after, true),
            ] {
                let Some(IpAddr::V4(v4)) = text.map(address) else {
                    continue;
                };
                for wrapped in in_v6(v4) {
                    assert_eq!(is_public(address(&wrapped)), public, "{wrapped}");
                }
            }
        }
    }

    #[test]
    fn the_public_internet_is_public() {
        for text in ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450::"] {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_in_the_old_compatible_form_is_not_public() {
        assert!(!is_public(address("::93.184.215.14")));
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.2.0.0/16", "10.2.255.255", "10.3.0.0"),
            ("10.2.0.0/16", "::ffff:10.2.0.1", "::ffff:10.3.0.1"),
            ("10.2.3.4/32", "10.2.3.4", "10.2.3.5"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "fe80::1", "10.2.0.0"),
            ("fd00:1::/64", "fd00:1::ffff:0:0:1", "fd00:1:0:1::"),
            ("::1/128", "::1", "::2"),
        ] {
            let network: Network = network.parse().unwrap();

            assert!(network.contains(address(inside)), "{network} {inside}");
            assert!(!network.contains(address(outside)), "{network} {outside}");
        }
    }

    #[test]
    fn a_network_is_its_first_address_and_a_number_of_bits() {
        for text in ["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), text);
        }
        for (text, error) in [
            ("", InvalidNetwork::Form),
            ("10.0.0.0", InvalidNetwork::Form),
            ("10.0.0/8", InvalidNetwork::Form),
            ("10.0.0.0/33", InvalidNetwork::Form),
            ("10.0.0.0/+8", InvalidNetwork::Form),
            ("10.0.0.0/", InvalidNetwork::Form),
            ("fd00::/129", InvalidNetwork::Form),
            ("host/8", InvalidNetwork::Form),
            ("10.0.0.1/8", InvalidNetwork::NotItsFirst),
            ("fd00::1/64", InvalidNetwork::NotItsFirst),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
