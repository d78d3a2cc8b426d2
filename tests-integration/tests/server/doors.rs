//! Every way in, through the whole server: published keys, Cloudflare Access, personal tokens.

use atelier_testkit::jwks_double::{JwksDouble, SigningKey};
use atelier_tests_integration::client::{Answer, Client};
use atelier_tests_integration::people::Person;
use atelier_tests_integration::server::ServerSetup;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::rows_of;
use atelier_tests_integration::workflows::without_models;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::ATELIER;

const TEAM: &str = "https://team.cloudflareaccess.com";
const AUDIENCE: &str = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";

fn within(keys: &JwksDouble, site: &Site) -> ServerSetup {
    site.setup()
        .with("SUPABASE_JWT_ISSUER", keys.issuer())
        .with("SUPABASE_JWKS_URL", keys.jwks_url())
        .with("CF_ACCESS_TEAM_DOMAIN", "team")
        .with("CF_ACCESS_AUD", AUDIENCE)
        .with("CF_ACCESS_CERTS_URL", keys.certs_url())
}

fn seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("it is later than 1970").as_secs()).expect("it is not that late")
}

/// An access token of Supabase Auth.
fn access_token(key: &SigningKey, issuer: &str, person: &Person) -> String {
    key.sign(&json!({
        "iss": issuer, "sub": person.id, "aud": "authenticated", "role": "authenticated",
        "iat": seconds(), "exp": seconds() + 3_600, "email": "", "is_anonymous": false,
    }))
}

/// An assertion of Cloudflare Access.
fn assertion(key: &SigningKey, subject: &str) -> String {
    key.sign(&json!({
        "iss": TEAM, "sub": subject, "aud": [AUDIENCE], "type": "app", "email": "carol@example.com",
        "iat": seconds(), "nbf": seconds(), "exp": seconds() + 3_600,
    }))
}

/// Sends with a header instead of a person.
async fn send(
    client: &Client,
    method: Method,
    path: &str,
    header: (&str, &str),
    body: Option<&Value>,
) -> Answer {
    let mut request = client.request(method, path).header(header.0, header.1);
    if let Some(body) = body {
        request = request.json(body);
    }
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_published_keys_sign_in_and_others_do_not() {
    let keys = JwksDouble::start().expect("there is a free port");
    let (elliptic, rsa) = (SigningKey::es256("one"), SigningKey::rs256("two"));
    keys.publish(&[&elliptic, &rsa]);
    let site = Site::new(ATELIER).await;
    let server = within(&keys, &site).start();
    let client = server.anonymous();
    let person = Person::new();
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        send(
            &client,
            Method::GET,
            "/workflows",
            ("authorization", &bearer),
            None,
        )
        .await
    };

    for key in [&elliptic, &rsa] {
        let token = access_token(key, &keys.issuer(), &person);
        ask(&token).await.expect(200);
    }
    let stranger = SigningKey::es256("one");
    for refused in [
        access_token(&stranger, &keys.issuer(), &person),
        access_token(&elliptic, "https://elsewhere.example/auth/v1", &person),
        assertion(&elliptic, "a subject"),
        // Signed with the secret, and issued by nobody.
        person.token.clone(),
        "sb_publishable_0123456789abcdef".to_owned(),
    ] {
        ask(&refused).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(keys.count(), 1, "the keys were asked for more than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_comes_through_cloudflare_access_is_the_same_person_after_a_restart() {
    let keys = JwksDouble::start().expect("there is a free port");
    let key = SigningKey::rs256("one");
    keys.publish(&[&key]);
    let site = Site::new(ATELIER).await;
    let setup = within(&keys, &site);
    let server = setup.start();
    let body = json!({"name": "Carol's", "workflow_json": without_models(1)});
    let (carol, other) = (assertion(&key, "carol"), assertion(&key, "somebody else"));
    let header = ("cf-access-jwt-assertion", carol.as_str());

    let made = send(
        &server.anonymous(),
        Method::POST,
        "/workflows",
        header,
        Some(&body),
    )
    .await;
    let made = made.expect(201);
    drop(server);
    let server = setup.start();
    let client = server.anonymous();
    let seen = send(&client, Method::GET, "/workflows", header, None)
        .await
        .expect(200);
    let cookie = format!("a=b; CF_Authorization={other}");
    let others = send(
        &client,
        Method::GET,
        "/workflows",
        ("cookie", &cookie),
        None,
    )
    .await;

    assert_eq!(seen["items"][0]["id"], made["id"]);
    assert_eq!(seen["items"][0]["user_id"], made["user_id"]);
    // The same address, another subject: somebody else.
    assert_eq!(others.expect(200)["items"], json!([]));
    assert!(
        rows_of(&site.database)
            .await
            .contains("identity.provisioned")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_personal_token_outlives_a_restart_and_is_kept_nowhere() {
    let site = Site::new(ATELIER).await;
    let setup = site.setup();
    let server = setup.start();
    let owner = server.client();
    let draft = json!({"name": "script", "scopes": ["workflows:read"]});
    let made = owner
        .send(owner.request(Method::POST, "/tokens").json(&draft))
        .await;
    let made = made.expect(201);
    let secret = made["token"].as_str().expect("it is shown once").to_owned();
    drop(server);
    let server = setup.start();
    let client = server.anonymous();
    let bearer = format!("Bearer {secret}");
    let ask = async |method: Method, path: &str| {
        send(&client, method, path, ("authorization", &bearer), None).await
    };

    ask(Method::GET, "/workflows").await.expect(200);
    ask(Method::GET, "/runs")
        .await
        .expect_problem(403, "insufficient-scope");
    assert!(
        !rows_of(&site.database).await.contains(&secret),
        "the token was kept"
    );
    assert!(
        !server.process.printed().contains(&secret),
        "the token was logged"
    );
    let owner = owner.at_server(&server.url);
    let path = format!("/tokens/{}", made["id"].as_str().expect("an id"));
    owner.delete(&path).await.expect(204);
    ask(Method::GET, "/workflows")
        .await
        .expect_problem(401, "unauthenticated");
    let trail = rows_of(&site.database).await;
    assert!(trail.contains("token.created") && trail.contains("token.revoked"));
}
