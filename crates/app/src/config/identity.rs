//! Who may sign in.
//!
//! - `SUPABASE_URL`: the project, such as `https://abc.supabase.co`.
//! - `SUPABASE_JWT_ISSUER`: who must have issued a token; `{SUPABASE_URL}/auth/v1` if not set.
//! - `SUPABASE_JWKS_URL`: the keys of that issuer (ES256, RS256); `{issuer}/.well-known/jwks.json` if not set.
//! - `SUPABASE_JWT_SECRET`: the project's legacy JWT secret (HS256), as the dashboard shows it. With nothing else,
//!   tokens of any issuer are good that are signed with it.
//! - `ATELIER_ALLOW_ANONYMOUS`: whether anonymous users of the project may use this server; `false`.
//! - `ATELIER_REQUIRE_AAL2`: whether people must have signed in with a second factor; `false`.
//! - `CF_ACCESS_TEAM_DOMAIN`, `CF_ACCESS_AUD`: the team and the application's audience tags (separated by commas), if
//!   people come in through Cloudflare Access.
//! - `CF_ACCESS_CERTS_URL`: the team's keys; `https://{team}/cdn-cgi/access/certs` if not set.
//! - `CF_ACCESS_PROVISION`: `create` makes a person of somebody who has no account; `refuse` lets nobody in without
//!   one.
//! - `CF_ACCESS_SERVICE_TOKENS`: whom programs act for, `{client id}={user id}` separated by commas.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use std::collections::HashMap;

use atelier_domain::ids::UserId;

use super::{Mistakes, Secret, comma_separated, is_secret_given, or_variables};

pub(crate) const SECRET: &str = "SUPABASE_JWT_SECRET";
pub(crate) const JWKS_URL: &str = "SUPABASE_JWKS_URL";
pub(crate) const TEAM_DOMAIN: &str = "CF_ACCESS_TEAM_DOMAIN";
const AUDIENCES: &str = "CF_ACCESS_AUD";
const PROVISION: &str = "CF_ACCESS_PROVISION";
const SERVICE_TOKENS: &str = "CF_ACCESS_SERVICE_TOKENS";
const ALLOW_ANONYMOUS: &str = "ATELIER_ALLOW_ANONYMOUS";
const REQUIRE_AAL2: &str = "ATELIER_REQUIRE_AAL2";

/// How sign-in is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct IdentityArguments {
    /// The legacy JWT secret of the Supabase project (HS256).
    #[arg(long, env = SECRET, hide_env_values = true, value_name = "SECRET")]
    pub supabase_jwt_secret: Option<String>,
    /// The Supabase project, such as `https://abc.supabase.co`.
    #[arg(long, env = "SUPABASE_URL", value_name = "URL")]
    pub supabase_url: Option<String>,
    /// Who must have issued a token; {SUPABASE_URL}/auth/v1 if not set.
    #[arg(long, env = "SUPABASE_JWT_ISSUER", value_name = "URL")]
    pub supabase_jwt_issuer: Option<String>,
    /// The issuer's keys; {issuer}/.well-known/jwks.json if not set.
    #[arg(long, env = JWKS_URL, value_name = "URL")]
    pub supabase_jwks_url: Option<String>,
    /// Whether anonymous users of the project may use this server: true or false.
    #[arg(long, env = ALLOW_ANONYMOUS, value_name = "BOOL")]
    pub allow_anonymous: Option<String>,
    /// Whether people must have signed in with a second factor: true or false.
    #[arg(long, env = REQUIRE_AAL2, value_name = "BOOL")]
    pub require_aal2: Option<String>,
    /// The team of Cloudflare Access, such as `team.cloudflareaccess.com`.
    #[arg(long, env = TEAM_DOMAIN, value_name = "DOMAIN")]
    pub cf_access_team_domain: Option<String>,
    /// The audience tags of the application in Cloudflare Access, separated by commas.
    #[arg(long, env = AUDIENCES, value_name = "TAGS")]
    pub cf_access_aud: Option<String>,
    /// The team's keys; https://{team}/cdn-cgi/access/certs if not set.
    #[arg(long, env = "CF_ACCESS_CERTS_URL", value_name = "URL")]
    pub cf_access_certs_url: Option<String>,
    /// What becomes of somebody who comes through Cloudflare Access and has no account: create or
    /// refuse.
    #[arg(long, env = PROVISION, value_name = "WORD")]
    pub cf_access_provision: Option<String>,
    /// Whom programs act for: {client id}={user id}, separated by commas.
    #[arg(long, env = SERVICE_TOKENS, value_name = "PAIRS")]
    pub cf_access_service_tokens: Option<String>,
}

/// Who may sign in, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Supabase Auth.
    pub supabase: Option<SupabaseConfig>,
    /// Cloudflare Access.
    pub access: Option<AccessConfig>,
}

/// Which access tokens of Supabase Auth are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SupabaseConfig {
    /// The legacy JWT secret.
    pub secret: Option<Secret>,
    /// Who must have issued a token; `None` takes any issuer, which only a secret allows.
    pub issuer: Option<String>,
    /// Where the issuer's keys are.
    pub jwks_url: Option<String>,
    /// Whether the keys may come over plain HTTP from another machine: only where their address
    /// itself was given, as within a closed network.
    pub plain_keys: bool,
    /// Whether anonymous users are let in.
    pub allow_anonymous: bool,
    /// Whether a second factor is asked for.
    pub require_aal2: bool,
}

/// Which assertions of Cloudflare Access are good, and whom they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// The team.
    pub team_domain: String,
    /// The application's audience tags: at least one.
    pub audiences: Vec<String>,
    /// Where the team's keys are, if not where they usually are.
    pub certs_url: Option<String>,
    /// Whether somebody without an account becomes a new person.
    pub provision: bool,
    /// Whom programs act for, by client id.
    pub services: HashMap<String, UserId>,
}

impl IdentityArguments {
    /// Whether the JWT secret is given, by itself or as a file.
    pub(crate) fn has_secret(&self) -> bool {
        is_secret_given(self.supabase_jwt_secret.as_ref(), &[SECRET])
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<IdentityConfig> {
        let has_secret = self.has_secret();
        let supabase = self.supabase(mistakes);
        let access = self.access(mistakes);
        let (supabase, access) = supabase.zip(access)?;
        if supabase.is_none() && access.is_none() {
            if has_secret {
                // What is wrong with it is told already.
                return None;
            }
            mistakes.add(
                SECRET,
                "nobody could sign in: set SUPABASE_URL, or SUPABASE_JWT_SECRET, or CF_ACCESS_TEAM_DOMAIN with \
                 CF_ACCESS_AUD",
            );
            return None;
        }
        Some(IdentityConfig { supabase, access })
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is a mistake, the inner one a way in that is not there"
    )]
    fn supabase(&self, mistakes: &mut Mistakes) -> Option<Option<SupabaseConfig>> {
        let secret = mistakes.secret(self.supabase_jwt_secret.clone(), &[SECRET]);
        let given_issuer = or_variables(self.supabase_jwt_issuer.clone(), &[]);
        let project = or_variables(self.supabase_url.clone(), &[]);
        let issuer = given_issuer.or_else(|| {
            project.map(|project| format!("{}/auth/v1", project.trim_end_matches('/')))
        });
        let given_keys = or_variables(self.supabase_jwks_url.clone(), &[]);
        let plain_keys = given_keys.is_some();
        let jwks_url = given_keys.or_else(|| {
            let issuer = issuer.as_deref()?.trim_end_matches('/');
            Some(format!("{issuer}/.well-known/jwks.json"))
        });
        let allow_anonymous = yes_or_no(mistakes, ALLOW_ANONYMOUS, self.allow_anonymous.clone());
        let require_aal2 = yes_or_no(mistakes, REQUIRE_AAL2, self.require_aal2.clone());
        if jwks_url.is_some() && issuer.is_none() {
            mistakes.add(
                JWKS_URL,
                "says whose keys to trust and not who issues the tokens: set SUPABASE_JWT_ISSUER too",
            );
            return None;
        }
        let (allow_anonymous, require_aal2) = allow_anonymous.zip(require_aal2)?;
        Some(
            (secret.is_some() || jwks_url.is_some()).then_some(SupabaseConfig {
                secret,
                issuer,
                jwks_url,
                plain_keys,
                allow_anonymous,
                require_aal2,
            }),
        )
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is a mistake, the inner one a way in that is not there"
    )]
    fn access(&self, mistakes: &mut Mistakes) -> Option<Option<AccessConfig>> {
        let team_domain = or_variables(self.cf_access_team_domain.clone(), &[]);
        let audiences = comma_separated(self.cf_access_aud.clone());
        let provision = self.provision(mistakes);
        let services = self.services(mistakes);
        match (team_domain, audiences.is_empty()) {
            (None, true) => Some(None),
            (None, false) => {
                mistakes.add(TEAM_DOMAIN, "is required with CF_ACCESS_AUD");
                None
            }
            (Some(_), true) => {
                mistakes.add(
                    AUDIENCES,
                    "is required with CF_ACCESS_TEAM_DOMAIN: without it the tokens of every application of the team \
                     would be good",
                );
                None
            }
            (Some(team_domain), false) => Some(Some(AccessConfig {
                team_domain,
                audiences,
                certs_url: or_variables(self.cf_access_certs_url.clone(), &[]),
                provision: provision?,
                services: services?,
            })),
        }
    }

    fn provision(&self, mistakes: &mut Mistakes) -> Option<bool> {
        match or_variables(self.cf_access_provision.clone(), &[]).as_deref() {
            None | Some("create") => Some(true),
            Some("refuse") => Some(false),
            Some(other) => {
                mistakes.add(PROVISION, format!("must be create or refuse, is `{other}`"));
                None
            }
        }
    }

    fn services(&self, mistakes: &mut Mistakes) -> Option<HashMap<String, UserId>> {
        let pairs = comma_separated(self.cf_access_service_tokens.clone());
        let read = pairs.iter().map(|pair| {
            let (client_id, user_id) = pair.split_once('=')?;
            let user_id = user_id.trim().parse().ok()?;
            Some((client_id.trim().to_owned(), user_id))
        });
        let services: Option<HashMap<_, _>> = read.collect();
        if services.is_none() {
            mistakes.add(
                SERVICE_TOKENS,
                "must be pairs of client id and user id, `{client id}={user id}`, separated by commas",
            );
        }
        services
    }
}

fn yes_or_no(
    mistakes: &mut Mistakes,
    variable: &'static str,
    given: Option<String>,
) -> Option<bool> {
    match or_variables(given, &[]) {
        None => Some(false),
        Some(text) => mistakes.parse(variable, &text, "true or false", |_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: IdentityArguments) -> Result<IdentityConfig, String> {
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[expect(clippy::unnecessary_wraps, reason = "every argument may be missing")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn issuer_and_keys_follow_from_the_project() {
        let config = check(IdentityArguments {
            supabase_url: some("https://abc.supabase.co/"),
            ..IdentityArguments::default()
        });

        assert_eq!(
            config.unwrap().supabase,
            Some(SupabaseConfig {
                issuer: some("https://abc.supabase.co/auth/v1"),
                jwks_url: some("https://abc.supabase.co/auth/v1/.well-known/jwks.json"),
                ..SupabaseConfig::default()
            })
        );
    }

    #[test]
    fn somebody_must_be_able_to_sign_in() {
        let told = check(IdentityArguments::default()).unwrap_err();

        assert!(told.contains("nobody could sign in"), "{told}");
    }

    #[test]
    fn a_team_needs_an_audience() {
        let told = check(IdentityArguments {
            cf_access_team_domain: some("team"),
            ..IdentityArguments::default()
        })
        .unwrap_err();

        assert!(told.contains("CF_ACCESS_AUD: is required"), "{told}");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = check(IdentityArguments {
            supabase_jwks_url: some("https://keys.example"),
            allow_anonymous: some("perhaps"),
            cf_access_aud: some("tag"),
            cf_access_provision: some("maybe"),
            cf_access_service_tokens: some("a.access=nobody"),
            ..IdentityArguments::default()
        })
        .unwrap_err();

        for variable in [
            JWKS_URL,
            ALLOW_ANONYMOUS,
            TEAM_DOMAIN,
            PROVISION,
            SERVICE_TOKENS,
        ] {
            assert!(
                told.contains(&format!("\n  {variable}: ")),
                "{variable}: {told}"
            );
        }
    }

    #[test]
    fn programs_act_for_whom_they_are_told() {
        let config = check(IdentityArguments {
            cf_access_team_domain: some("team"),
            cf_access_aud: some("one, two"),
            cf_access_service_tokens: some("a.access=00000000-0000-0000-0000-000000000001"),
            ..IdentityArguments::default()
        });

        let access = config.unwrap().access.unwrap();
        assert_eq!(access.audiences, ["one", "two"]);
        assert!(access.provision);
        assert_eq!(access.services.len(), 1);
    }
}
