use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// Which hosts a rule allows: one by its name, or all those below a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    name: String,
    below: bool,
    port: Option<u16>,
}

/// The text is no rule for hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidHostRule {
    /// There is more than a host.
    #[error("give a host alone, without https:// and without a path")]
    NotAHost,
    /// The name cannot be one.
    #[error("the host's name is not valid")]
    Name,
    /// It is a number.
    #[error("give the host's name, not its IP address")]
    Number,
    /// It would allow half the Internet.
    #[error("\"*.\" must be followed by a name with a dot in it")]
    TooWide,
    /// The port is none.
    #[error("the port must be a number from 1 to 65535")]
    Port,
}

impl HostRule {
    /// Reads `models.example`, `*.models.example` (every host below it, not it
    /// itself) or either with a port, as in `models.example:8443`. Without a
    /// port it is the scheme's own.
    pub fn parse(text: &str) -> Result<Self, InvalidHostRule> {
        let text = text.trim();
        let (below, host) = text.strip_prefix("*.").map_or((false, text), |h| (true, h));
        let (host, port) = match host.split_once(':') {
            None => (host, None),
            Some((_, after)) if after.starts_with("//") || after.contains(':') => {
                return Err(InvalidHostRule::NotAHost);
            }
            Some((host, port)) => (host, Some(read_port(port)?)),
        };
        if host.contains(['/', '@', '?', '#', '[', ' ']) {
            return Err(InvalidHostRule::NotAHost);
        }
        if host.contains(['%', '*', '\\']) || host.split('.').any(str::is_empty) {
            return Err(InvalidHostRule::Name);
        }
        let name = match Host::parse(host) {
            Ok(Host::Domain(name)) => name,
            Ok(_) => return Err(InvalidHostRule::Number),
            Err(_no_host) => return Err(InvalidHostRule::Name),
        };
        if below && !name.contains('.') {
            return Err(InvalidHostRule::TooWide);
        }
        Ok(Self { name, below, port })
    }

    /// Whether the rule allows an address's host and port.
    pub fn covers(&self, url: &Url) -> bool {
        let Some(Host::Domain(host)) = url.host() else {
            return false;
        };
        // `port` is none for the scheme's own.
        let port_fits = match self.port {
            None => url.port().is_none(),
            Some(port) => url.port_or_known_default() == Some(port),
        };
        let name_fits = if self.below {
            host.strip_suffix(&self.name)
                .and_then(|left| left.strip_suffix('.'))
                .is_some_and(|left| !left.is_empty())
        } else {
            host == self.name
        };
        port_fits && name_fits
    }
}

fn read_port(text: &str) -> Result<u16, InvalidHostRule> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(InvalidHostRule::Port),
    }
}

impl FromStr for HostRule {
    type Err = InvalidHostRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.below {
            formatter.write_str("*.")?;
        }
        formatter.write_str(&self.name)?;
        match self.port {
            None => Ok(()),
            Some(port) => write!(formatter, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(rule: &str, url: &str) -> bool {
        HostRule::parse(rule)
            .unwrap()
            .covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_rule_allows_its_host_and_no_other() {
        for (rule, url, allowed) in [
            ("models.example", "https://models.example/a", true),
            ("models.example", "https://MODELS.example:443/a", true),
            ("models.example", "https://models.example:8443/a", false),
            ("models.example", "https://a.models.example/", false),
            ("models.example", "https://models.example.evil.test/", false),
            ("models.example", "https://evilmodels.example/", false),
            ("models.example", "https://models.example./", false),
            ("models.example", "http://models.example/", true),
            ("models.example", "http://models.example:443/", false),
            ("models.example:8443", "https://models.example:8443/a", true),
            ("models.example:8443", "https://models.example/a", false),
            ("models.example:443", "https://models.example/a", true),
            ("*.models.example", "https://a.models.example/", true),
            ("*.models.example", "https://b.a.models.example/", true),
            ("*.models.example", "https://models.example/", false),
            ("*.models.example", "https://evilmodels.example/", false),
            ("*.models.example", "https://.models.example/", false),
            ("bücher.example", "https://xn--bcher-kva.example/", true),
            ("Bücher.example", "https://bÜcher.example/", true),
            ("huggingface.co", "https://huggingfаce.co/", false), // a Cyrillic a
        ] {
            assert_eq!(covers(rule, url), allowed, "{rule} {url}");
        }
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["models.example", "*.models.example", "intranet:8443"] {
            assert_eq!(HostRule::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_rules() {
        use InvalidHostRule::{Name, NotAHost, Number, Port, TooWide};
        for (text, error) in [
            ("", Name),
            ("https://models.example", NotAHost),
            ("models.example/path", NotAHost),
            ("user@models.example", NotAHost),
            ("[::1]", NotAHost),
            ("::1", NotAHost),
            ("a b", NotAHost),
            ("models..example", Name),
            ("models.example.", Name),
            (".example", Name),
            ("*", Name),
            ("*.*.example", Name),
            ("m%6fdels.example", Name),
            ("127.0.0.1", Number),
            ("0x7f000001", Number),
            ("*.", Name),
            ("*.com", TooWide),
            ("models.example:", Port),
            ("models.example:0", Port),
            ("models.example:65536", Port),
            ("models.example:+80", Port),
        ] {
            assert_eq!(HostRule::parse(text), Err(error), "{text}");
        }
    }
}
