//! What stands in front of a backend and wants credentials.

use atelier_comfyui::{ComfyCredentials, ComfyHttp, ComfyOptions};
use atelier_comfyui_sim::{Credentials, Front, Version};
use atelier_domain::ports::{ComfyClient, ComfyError};

use crate::support::{
    World, all_refusals, client, next, quick_graph, submission, until_ended, world_with,
};

const PASSWORD: &str = "a very secret password";

async fn guarded(front: Front) -> World {
    world_with(Version::V0_33_0, |options| {
        options.credentials = Some(Credentials {
            basic: Some(("user".to_owned(), PASSWORD.to_owned())),
            token: Some("a-very-secret-token".to_owned()),
        });
        options.faults.front = Some(front);
    })
    .await
}

fn with(world: &World, credentials: ComfyCredentials) -> ComfyHttp {
    client(ComfyOptions {
        base_url: world.simulator.url(),
        credentials,
        ..ComfyOptions::default()
    })
}

fn basic(password: &str) -> ComfyCredentials {
    ComfyCredentials::Basic {
        user: "user".to_owned(),
        password: password.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_login_page_is_a_refusal() {
    let world = guarded(Front::Redirect).await;

    for credentials in [ComfyCredentials::None, basic("wrong")] {
        for error in all_refusals(&with(&world, credentials)).await {
            assert!(
                matches!(error, ComfyError::Unauthorized { status: 302 }),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_is_a_refusal() {
    let world = guarded(Front::Unauthorized).await;

    for error in all_refusals(&with(
        &world,
        ComfyCredentials::Bearer {
            token: "wrong".to_owned(),
        },
    ))
    .await
    {
        assert!(
            matches!(error, ComfyError::Unauthorized { status: 401 }),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_credentials_open_requests_and_sockets() {
    for front in [Front::Redirect, Front::Unauthorized] {
        let world = guarded(front).await;
        for credentials in [
            basic(PASSWORD),
            ComfyCredentials::Bearer {
                token: "a-very-secret-token".to_owned(),
            },
        ] {
            let comfy = with(&world, credentials);
            let mut events = comfy.connect_events().await.unwrap();
            assert!(next(&mut events).await.unwrap().is_ok());

            let submission = submission(&quick_graph("x"), &events.client_id);
            let prompt_id = comfy.submit(submission).await.unwrap().prompt_id;
            until_ended(&mut events, &prompt_id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_not_told() {
    let world = guarded(Front::Unauthorized).await;
    let comfy = with(&world, basic(PASSWORD));

    assert!(!format!("{comfy:?}").contains(PASSWORD));
    world.simulator.stop().await;
    let error = comfy.information().await.unwrap_err();
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
}
