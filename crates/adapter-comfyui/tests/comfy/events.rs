//! What comes over the socket, and what happens when it breaks.

use std::time::Duration;

use atelier_comfyui_sim::Version;
use atelier_domain::ports::{ComfyClient, ComfyError, ComfyEvent, PromptOutcome, PromptState};
use futures_util::{FutureExt, StreamExt};

use crate::support::{
    next, on_both_versions, quick_graph, sampling_graph, submission, until_ended, world, world_with,
};

on_both_versions!(
    a_prompt_is_told_from_start_to_end,
    the_history_can_be_read_once_the_prompt_has_ended,
    a_failed_prompt_ends_too,
    an_interrupted_prompt_ends_too,
    every_socket_has_a_client_id_of_its_own,
    a_cut_socket_ends_with_an_error,
    a_restart_ends_the_socket,
    a_deaf_socket_tells_nothing_and_hides_nothing,
    a_consumer_that_does_not_read_holds_nobody_up,
);

async fn a_prompt_is_told_from_start_to_end(version: Version) {
    let world = world(version).await;
    let mut events = world.comfy.connect_events().await.unwrap();

    let submission = submission(&sampling_graph(3), &events.client_id);
    let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;
    let seen = until_ended(&mut events, &prompt_id).await;

    let started = seen.iter().position(
        |event| matches!(event, ComfyEvent::Started { prompt_id: id } if *id == prompt_id),
    );
    let cached = seen
        .iter()
        .position(|event| matches!(event, ComfyEvent::Cached { nodes, .. } if nodes.is_empty()));
    assert!(started.unwrap() < cached.unwrap(), "{seen:?}");
    for node in ["3", "4", "5", "6", "7", "8", "9"] {
        assert!(
            seen.iter().any(
                |event| matches!(event, ComfyEvent::Executing { node_id, .. } if node_id == node)
            ),
            "node {node} in {seen:?}"
        );
    }
    let last_step = seen
        .iter()
        .rfind(|event| matches!(event, ComfyEvent::Progress { .. }))
        .unwrap();
    assert!(
        matches!(last_step, ComfyEvent::Progress { node_id, value: 3, max: 3, .. } if node_id == "3"),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|event| matches!(event, ComfyEvent::Executed { node_id, .. } if node_id == "9"))
    );
    assert!(
        seen.iter()
            .any(|event| matches!(event, ComfyEvent::QueueRemaining(1)))
    );
}

async fn the_history_can_be_read_once_the_prompt_has_ended(version: Version) {
    let world = world(version).await;
    let mut events = world.comfy.connect_events().await.unwrap();

    for round in 0..20 {
        let submission = submission(&quick_graph(&format!("round-{round}")), &events.client_id);
        let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;
        until_ended(&mut events, &prompt_id).await;
        assert!(
            matches!(world.state(&prompt_id).await, PromptState::Finished(_)),
            "round {round}"
        );
    }
}

async fn a_failed_prompt_ends_too(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.error_at = Some("1".to_owned()));
    let mut events = world.comfy.connect_events().await.unwrap();

    let submission = submission(&quick_graph("x"), &events.client_id);
    let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;

    until_ended(&mut events, &prompt_id).await;
    assert!(matches!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Failed { .. }
    ));
}

async fn an_interrupted_prompt_ends_too(version: Version) {
    let world = world_with(version, |options| {
        options.step_delay = Duration::from_millis(10);
    })
    .await;
    let mut events = world.comfy.connect_events().await.unwrap();
    let submission = submission(&sampling_graph(2_000), &events.client_id);
    let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;
    world
        .reaches(&prompt_id, |state| *state == PromptState::Running)
        .await;

    world.comfy.cancel(&prompt_id).await.unwrap();

    until_ended(&mut events, &prompt_id).await;
    assert_eq!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Interrupted
    );
}

async fn every_socket_has_a_client_id_of_its_own(version: Version) {
    let world = world(version).await;

    let mut first = world.comfy.connect_events().await.unwrap();
    let mut second = world.comfy.connect_events().await.unwrap();

    assert_ne!(first.client_id, second.client_id);
    for events in [&mut first, &mut second] {
        let submission = submission(&quick_graph(&events.client_id), &events.client_id);
        let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;
        until_ended(events, &prompt_id).await;
    }
}

async fn a_cut_socket_ends_with_an_error(version: Version) {
    let world = world(version).await;
    let mut events = world.comfy.connect_events().await.unwrap();

    world
        .simulator
        .faults()
        .change(|faults| faults.cut_sockets_every_ms = Some(1));

    let error = loop {
        match next(&mut events).await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(
        matches!(error, Some(Err(ComfyError::Unreachable(_)))),
        "{error:?}"
    );
    assert!(next(&mut events).await.is_none());
}

async fn a_restart_ends_the_socket(version: Version) {
    let world = world(version).await;
    let mut events = world.comfy.connect_events().await.unwrap();

    world.simulator.restart().await.unwrap();

    while let Some(event) = next(&mut events).await {
        if event.is_err() {
            break;
        }
    }
    let mut events = world.comfy.connect_events().await.unwrap();
    assert!(matches!(
        next(&mut events).await,
        Some(Ok(ComfyEvent::QueueRemaining(0)))
    ));
}

async fn a_deaf_socket_tells_nothing_and_hides_nothing(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.deaf_sockets = true);
    let mut events = world.comfy.connect_events().await.unwrap();

    let submission = submission(&quick_graph("x"), &events.client_id);
    let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;

    assert_eq!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Success
    );
    assert!(
        events.stream.next().now_or_never().is_none(),
        "an event came over a deaf socket"
    );
}

async fn a_consumer_that_does_not_read_holds_nobody_up(version: Version) {
    let world = world(version).await;
    let mut lazy = world.comfy.connect_events().await.unwrap();
    let mut eager = world.comfy.connect_events().await.unwrap();

    let long = submission(&sampling_graph(3_000), &lazy.client_id);
    let long_id = world.comfy.submit(long).await.unwrap().prompt_id;
    let short = submission(&quick_graph("x"), &eager.client_id);
    let short_id = world.comfy.submit(short).await.unwrap().prompt_id;

    until_ended(&mut eager, &short_id).await;
    let seen = until_ended(&mut lazy, &long_id).await;
    assert!(seen.len() <= 1024, "{} events waited", seen.len());
}
