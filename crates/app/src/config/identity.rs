//! Who may sign in.
//!
//! - `SUPABASE_JWT_SECRET`: the project's JWT secret (HS256), as the dashboard shows it.
//! - `SUPABASE_URL`: the project, such as `https://abc.supabase.co`.
//! - `SUPABASE_JWT_ISSUER`: who must have issued a token; `{SUPABASE_URL}/auth/v1` if not set, and
//!   anybody where that is not set either.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use super::{Mistakes, Secret, or_variables};

const SECRET: &str = "SUPABASE_JWT_SECRET";

/// How sign-in is told.
#[derive(Clone, Debug, clap::Args)]
pub struct IdentityArguments {
    /// The JWT secret of the Supabase project.
    #[arg(long, env = SECRET, hide_env_values = true, value_name = "SECRET")]
    pub supabase_jwt_secret: Option<String>,
    /// The Supabase project, such as `https://abc.supabase.co`.
    #[arg(long, env = "SUPABASE_URL", value_name = "URL")]
    pub supabase_url: Option<String>,
    /// Who must have issued a token; {SUPABASE_URL}/auth/v1 if not set.
    #[arg(long, env = "SUPABASE_JWT_ISSUER", value_name = "URL")]
    pub supabase_jwt_issuer: Option<String>,
}

/// Which tokens are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityConfig {
    /// The JWT secret.
    pub secret: Secret,
    /// Who must have issued a token; `None` takes any issuer.
    pub issuer: Option<String>,
}

impl IdentityArguments {
    /// The JWT secret, if it is given.
    pub(crate) fn given_secret(&self) -> Option<String> {
        or_variables(self.supabase_jwt_secret.clone(), &[])
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<IdentityConfig> {
        let secret = self.given_secret();
        let issuer = or_variables(self.supabase_jwt_issuer, &[]).or_else(|| {
            let project = or_variables(self.supabase_url, &[])?;
            Some(format!("{}/auth/v1", project.trim_end_matches('/')))
        });
        let Some(secret) = secret else {
            mistakes.add(
                SECRET,
                "is required: the JWT secret of the Supabase project",
            );
            return None;
        };
        Some(IdentityConfig {
            secret: Secret::new(secret),
            issuer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_follows_from_the_project() {
        let arguments = IdentityArguments {
            supabase_jwt_secret: Some("secret".to_owned()),
            supabase_url: Some("https://abc.supabase.co/".to_owned()),
            supabase_jwt_issuer: None,
        };

        let config = arguments.check(&mut Mistakes::default());

        assert_eq!(
            config.and_then(|config| config.issuer),
            Some("https://abc.supabase.co/auth/v1".to_owned())
        );
    }
}
