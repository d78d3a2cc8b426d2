use thiserror::Error;

use crate::keys::{RemoteKeysOptions, RemoteKeysOptionsError};

/// Where the domains of all teams are.
const TEAMS: &str = ".cloudflareaccess.com";

/// Which assertions of Cloudflare Access are good.
#[derive(Clone, Debug)]
pub struct CloudflareOptions {
    /// The team's domain: `team`, `team.cloudflareaccess.com`, or that with `https://`.
    pub team_domain: String,
    /// The audience tags (AUD) of the Access applications in front of this server; one of them
    /// must be in an assertion. Other applications of the same team share its keys and its name.
    pub audiences: Vec<String>,
    /// Where the team's keys are, if not at `https://{team domain}/cdn-cgi/access/certs`.
    pub certs: Option<RemoteKeysOptions>,
}

/// What is wrong with [`CloudflareOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloudflareOptionsError {
    /// No domain of a team.
    #[error(
        "the team domain of Cloudflare Access must be like team.cloudflareaccess.com: letters, \
         digits and hyphens before the first dot"
    )]
    TeamDomain,
    /// Nothing that tells our application from the team's others.
    #[error(
        "Cloudflare Access needs the audience tag (AUD) of this server's application: without it \
         the assertions of every other application of the team would be good here"
    )]
    NoAudience,
    /// The keys cannot be fetched this way.
    #[error("the keys of Cloudflare Access cannot be fetched this way")]
    Keys(#[source] RemoteKeysOptionsError),
}

impl CloudflareOptions {
    /// The issuer of the team's assertions, with no slash at its end.
    pub(super) fn issuer(&self) -> Result<String, CloudflareOptionsError> {
        let domain = self.team_domain.trim().to_ascii_lowercase();
        let host = domain.strip_prefix("https://").unwrap_or(&domain);
        let host = host.strip_suffix('/').unwrap_or(host);
        let team = host.strip_suffix(TEAMS).unwrap_or(host);
        let is_label = (1..=63).contains(&team.len())
            && team
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !team.starts_with('-')
            && !team.ends_with('-');
        is_label
            .then(|| format!("https://{team}{TEAMS}"))
            .ok_or(CloudflareOptionsError::TeamDomain)
    }

    pub(super) fn audiences(&self) -> Result<Vec<String>, CloudflareOptionsError> {
        let audiences: Vec<String> = self
            .audiences
            .iter()
            .map(|audience| audience.trim().to_owned())
            .filter(|audience| !audience.is_empty())
            .collect();
        if audiences.is_empty() {
            return Err(CloudflareOptionsError::NoAudience);
        }
        Ok(audiences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(team_domain: &str) -> Option<String> {
        let options = CloudflareOptions {
            team_domain: team_domain.to_owned(),
            audiences: Vec::new(),
            certs: None,
        };
        options.issuer().ok()
    }

    #[test]
    fn a_team_is_known_by_its_name_its_domain_or_its_address() {
        for told in [
            "my-team",
            "my-team.cloudflareaccess.com",
            "https://my-team.cloudflareaccess.com",
            "https://my-team.cloudflareaccess.com/",
            " My-Team.CloudflareAccess.com ",
        ] {
            assert_eq!(
                issuer(told).as_deref(),
                Some("https://my-team.cloudflareaccess.com"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_is_no_team_is_refused() {
        for told in [
            "",
            "https://",
            ".cloudflareaccess.com",
            "http://team.cloudflareaccess.com",
            "team.example.com",
            "team.cloudflareaccess.com.evil.example",
            "evil.example/team.cloudflareaccess.com",
            "user@team",
            "team.cloudflareaccess.com/path",
            "team:8443",
            "-team",
        ] {
            assert_eq!(issuer(told), None, "{told}");
        }
    }
}
