//! The verdicts on access tokens of Supabase Auth: every rule of
//! `reference/platform/PROTOCOLS.md` section 2.3 broken once.

mod claims;
mod keys;
mod shape;
mod signatures;
mod users;

use std::sync::Arc;

use atelier_identity::{RemoteKeysOptions, SupabaseOptions, SupabaseTokens};
use atelier_testkit::ManualClock;
use atelier_testkit::jwks_double::JwksDouble;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::{CURRENT, EMAIL, Expected, RSA, SECRET, STANDBY, USER, Verdict, now, with};

const ISSUER: &str = "https://abcdefghijklmnopqrst.supabase.co/auth/v1";
const GOOD: Expected = Expected::User(Some(EMAIL));

type Preparation = Box<dyn Fn(&JwksDouble, &mut SupabaseOptions) + Send + Sync>;

struct Row {
    name: &'static str,
    token: String,
    expected: Expected,
    prepare: Option<Preparation>,
}

/// A token, judged with the usual keys and options.
fn row(name: &'static str, token: String, expected: Expected) -> Row {
    Row {
        name,
        token,
        expected,
        prepare: None,
    }
}

impl Row {
    /// Judged in a world of its own.
    fn when(
        mut self,
        prepare: impl Fn(&JwksDouble, &mut SupabaseOptions) + Send + Sync + 'static,
    ) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }
}

struct World {
    tokens: SupabaseTokens,
    _double: JwksDouble,
}

impl World {
    fn new(prepare: impl Fn(&JwksDouble, &mut SupabaseOptions)) -> Self {
        let double = JwksDouble::start().unwrap();
        double.publish(&[&CURRENT, &STANDBY, &RSA]);
        let mut options = SupabaseOptions {
            issuer: Some(ISSUER.to_owned()),
            jwks: Some(RemoteKeysOptions::at(double.jwks_url())),
            secret: Some(SECRET.to_owned()),
            ..SupabaseOptions::default()
        };
        prepare(&double, &mut options);
        let clock = Arc::new(ManualClock::default());
        Self {
            tokens: SupabaseTokens::new(options, clock, Handle::current()).unwrap(),
            _double: double,
        }
    }
}

async fn judge(rows: Vec<Row>) {
    let usual = World::new(|_, _| {});
    let mut surprises = Vec::new();
    for row in &rows {
        let own = row.prepare.as_ref().map(World::new);
        let world = own.as_ref().unwrap_or(&usual);
        let verdict = Verdict::of(&world.tokens, &row.token).await;
        if !verdict.is(row.expected) {
            surprises.push(format!("{}: {verdict}, not {:?}", row.name, row.expected));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": USER, "aud": "authenticated", "exp": now() + 3600, "iat": now(),
        "email": EMAIL, "phone": "", "role": "authenticated", "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now()}], "is_anonymous": false,
        "app_metadata": {"provider": "email", "role": "service_role"}, "user_metadata": {},
        "session_id": "5f0d1d1c-0f04-4a0e-a0f5-8c9d1d9c8d4e"
    })
}

/// Signed as usual, with another claim.
fn claiming(member: &str, value: Value) -> String {
    CURRENT.sign(&with(claims(), member, value))
}

fn headed(header: &Value) -> String {
    CURRENT.sign_with_header(header, &claims())
}

fn legacy_key(iss: &str, role: &str) -> Value {
    json!({"iss": iss, "ref": "abcdefghijklmnopqrst", "role": role, "iat": now() - 1000,
        "exp": now() + 315_360_000})
}

/// A token whose parts are these, as they are.
fn raw(header: &str, payload: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(header), part(payload), part("signature"))
}
