use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{claims, headed, judge, legacy_key, raw, row};
use crate::support::{CURRENT, Expected, hmac, hs256};

#[tokio::test]
async fn what_is_no_token_of_a_user_is_refused() {
    let malformed = Expected::Refused("three parts");
    let api_key = Expected::Refused("API key");
    let good = CURRENT.sign(&claims());
    let three: Vec<&str> = good.split('.').collect();
    judge(vec![
        row(
            "too long",
            format!("{good}{}", "A".repeat(8192)),
            Expected::Refused("longer"),
        ),
        row("nothing", String::new(), malformed),
        row("two parts", format!("{}.{}", three[0], three[1]), malformed),
        row("four parts", format!("{good}.{}", three[2]), malformed),
        row(
            "five parts, as of an encrypted token",
            format!("{good}.a.b"),
            malformed,
        ),
        row(
            "a header that is no base64url",
            format!("!.{}.{}", three[1], three[2]),
            malformed,
        ),
        row(
            "a header with padding",
            format!("{}=.{}.{}", three[0], three[1], three[2]),
            malformed,
        ),
        row("a header that is no JSON", raw("header", "{}"), malformed),
        row(
            "a header without an algorithm",
            headed(&json!({"kid": "current"})),
            malformed,
        ),
        row(
            "two algorithms",
            raw(r#"{"alg":"ES256","alg":"none"}"#, "{}"),
            malformed,
        ),
        row(
            "a key id that is a number",
            headed(&json!({"alg": "ES256", "kid": 1})),
            malformed,
        ),
        row(
            "a publishable key",
            "sb_publishable_Zm9vYmFyYmF6".to_owned(),
            api_key,
        ),
        row("a secret key", "sb_secret_Zm9vYmFyYmF6".to_owned(), api_key),
        row(
            "a legacy anon key",
            hs256(&legacy_key("supabase", "anon")),
            api_key,
        ),
        row(
            "a legacy service_role key",
            hs256(&legacy_key("supabase", "service_role")),
            api_key,
        ),
        row(
            "a local anon key",
            hs256(&legacy_key("supabase-demo", "anon")),
            api_key,
        ),
        row(
            "a legacy key, and HS256 not taken",
            hs256(&legacy_key("supabase", "anon")),
            api_key,
        )
        .when(|_, options| options.secret = None),
        row(
            "a legacy key of another project",
            hmac(
                &json!({"alg": "HS256"}),
                &legacy_key("supabase", "service_role"),
                b"the secret of another project",
                Algorithm::HS256,
            ),
            api_key,
        ),
    ])
    .await;
}
