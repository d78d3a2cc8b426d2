//! The [`ScriptedComfy`] does what the test says.

use atelier_domain::ids::RunId;
use atelier_domain::output::{BackendOutput, BackendOutputContent};
use atelier_domain::ports::{
    ComfyClient as _, ComfyError, ComfyEvent, PromptOutcome, PromptRejection, PromptResult,
    PromptState, PromptSubmission,
};
use atelier_testkit::build::{a_graph, a_preview};
use atelier_testkit::{PromptScript, ScriptedComfy, SubmitAnswer, Then, random_id};
use futures_util::StreamExt as _;
use serde_json::json;

fn a_submission(client_id: &str) -> PromptSubmission {
    PromptSubmission {
        run_id: RunId::new(random_id()),
        client_id: client_id.to_owned(),
        graph: a_graph(),
        extra_data: json!({}),
    }
}

fn success(outputs: Vec<BackendOutput>) -> PromptResult {
    PromptResult {
        outcome: PromptOutcome::Success,
        outputs,
    }
}

#[tokio::test]
async fn without_a_script_a_prompt_ends_well_with_a_picture() {
    let comfy = ScriptedComfy::new();
    let mut events = comfy.connect_events().await.unwrap();
    let submission = a_submission(&events.client_id);

    let submitted = comfy.submit(submission.clone()).await.unwrap();

    let prompt_id = submission.run_id.to_string();
    assert_eq!(submitted.prompt_id, prompt_id);
    assert_eq!(comfy.submissions(), [submission]);
    let PromptState::Finished(result) = comfy.prompt_state(&prompt_id).await.unwrap() else {
        panic!("it ended at once");
    };
    let [picture] = result.outputs.as_slice() else {
        panic!("one picture: {result:?}");
    };
    let BackendOutputContent::File(file) = &picture.content else {
        panic!("a file: {picture:?}");
    };
    let mut reader = comfy.fetch_output(file).await.unwrap();
    let bytes = reader.bytes.next().await.unwrap().unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(reader.size_bytes, Some(bytes.len() as u64));
    let started = ComfyEvent::Started {
        prompt_id: prompt_id.clone(),
    };
    assert_eq!(events.stream.next().await.unwrap().unwrap(), started);
    let ended = ComfyEvent::Ended { prompt_id };
    assert_eq!(events.stream.next().await.unwrap().unwrap(), ended);
}

#[tokio::test]
async fn a_prompt_that_is_late_runs_until_it_was_asked_for() {
    let comfy = ScriptedComfy::new();
    let result = success(vec![comfy.put_image("9", "a.png", "bytes")]);
    comfy.script(PromptScript {
        prompt_id: Some("its own name".to_owned()),
        ..PromptScript::taken(Then::EndsSilentlyAfter {
            questions: 2,
            result: result.clone(),
        })
    });

    let submitted = comfy.submit(a_submission("c")).await.unwrap();

    let id = submitted.prompt_id.as_str();
    assert_eq!(id, "its own name");
    for expected in [
        PromptState::Running,
        PromptState::Running,
        PromptState::Finished(result.clone()),
        PromptState::Finished(result),
    ] {
        assert_eq!(comfy.prompt_state(id).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn an_unheard_answer_leaves_the_prompt_behind_and_a_lost_one_does_not() {
    let comfy = ScriptedComfy::new();
    for (answer, arrives) in [
        (SubmitAnswer::TakenUnheard, true),
        (SubmitAnswer::LostUnseen, false),
    ] {
        comfy.script(PromptScript {
            answer,
            ..PromptScript::taken(Then::Runs)
        });
        let submission = a_submission("c");

        let outcome = comfy.submit(submission.clone()).await;

        assert!(matches!(outcome, Err(ComfyError::AnswerLost(_))));
        let state = comfy.prompt_state(&submission.run_id.to_string()).await;
        assert_eq!(state.unwrap() == PromptState::Running, arrives);
    }
}

#[tokio::test]
async fn prompts_queue_up_and_a_cancelled_one_leaves() {
    let comfy = ScriptedComfy::new();
    let mut ids = Vec::new();
    for then in [Then::Runs, Then::Waits, Then::Waits] {
        comfy.script(PromptScript::taken(then));
        let submitted = comfy.submit(a_submission("c")).await.unwrap();
        ids.push(submitted.prompt_id);
    }
    let [running, first, second] = ids.as_slice() else {
        panic!("three were taken");
    };
    let queue = comfy.queue().await.unwrap();
    assert_eq!((&queue.running[..], &queue.pending[..]), ids.split_at(1));
    let state = comfy.prompt_state(second).await.unwrap();
    assert_eq!(state, PromptState::Pending { ahead: 2 });

    for id in [first, running] {
        comfy.cancel(id).await.unwrap();
    }

    assert_eq!(comfy.cancelled(), [first.clone(), running.clone()]);
    let state = comfy.prompt_state(first).await.unwrap();
    assert_eq!(state, PromptState::Unknown);
    assert!(matches!(
        comfy.prompt_state(running).await.unwrap(),
        PromptState::Finished(PromptResult {
            outcome: PromptOutcome::Interrupted,
            ..
        })
    ));
}

#[tokio::test]
async fn a_restart_forgets_prompts_and_ends_sockets() {
    let comfy = ScriptedComfy::new();
    let mut events = comfy.connect_events().await.unwrap();
    comfy.script(PromptScript::taken(Then::Waits));
    let submitted = comfy.submit(a_submission(&events.client_id)).await.unwrap();
    comfy.push(&ComfyEvent::QueueRemaining(1));

    comfy.restart();

    let told = events.stream.next().await.unwrap().unwrap();
    assert_eq!(told, ComfyEvent::QueueRemaining(1));
    assert!(events.stream.next().await.is_none());
    let state = comfy.prompt_state(&submitted.prompt_id).await.unwrap();
    assert_eq!(state, PromptState::Unknown);
    let next = comfy.connect_events().await.unwrap();
    assert_ne!(next.client_id, events.client_id);
}

#[tokio::test]
async fn a_preview_reaches_whoever_listens() {
    let comfy = ScriptedComfy::new();
    let mut events = comfy.connect_events().await.unwrap();

    comfy.push_preview("a prompt", "3", a_preview(7));

    let expected = ComfyEvent::Preview {
        prompt_id: "a prompt".to_owned(),
        node_id: "3".to_owned(),
        image: a_preview(7),
    };
    assert_eq!(events.stream.next().await.unwrap().unwrap(), expected);
}

#[tokio::test]
async fn a_test_moves_a_prompt_while_somebody_waits_for_it() {
    let comfy = ScriptedComfy::new();
    let submitter = comfy.clone();
    comfy.script(PromptScript::taken(Then::Waits));
    let submitting = tokio::spawn(async move { submitter.submit(a_submission("c")).await });
    let submissions = comfy.wait_for_submissions(1).await;
    let prompt_id = submissions[0].run_id.to_string();
    submitting.await.unwrap().unwrap();

    comfy.set_state(&prompt_id, PromptState::Finished(success(Vec::new())));

    let state = comfy.prompt_state(&prompt_id).await.unwrap();
    assert_eq!(state, PromptState::Finished(success(Vec::new())));
}

#[tokio::test]
async fn what_goes_wrong_is_told_as_the_port_says() {
    let comfy = ScriptedComfy::new();
    for answer in [
        SubmitAnswer::Unreachable,
        SubmitAnswer::Unauthorized(401),
        SubmitAnswer::ServerError(500),
        SubmitAnswer::Rejected(PromptRejection::default()),
    ] {
        comfy.script(PromptScript::refused(answer.clone()));

        let error = comfy.submit(a_submission("c")).await.unwrap_err();

        let fits = match answer {
            SubmitAnswer::Unreachable => matches!(error, ComfyError::Unreachable(_)),
            SubmitAnswer::Unauthorized(_) => {
                matches!(error, ComfyError::Unauthorized { status: 401 })
            }
            SubmitAnswer::ServerError(_) => {
                matches!(error, ComfyError::ServerError { status: 500 })
            }
            _ => matches!(error, ComfyError::Rejected(_)),
        };
        assert!(fits, "{error:?}");
    }
    comfy.script(PromptScript::fails("3", "KSampler", "ValueError"));
    let submitted = comfy.submit(a_submission("c")).await.unwrap();
    let state = comfy.prompt_state(&submitted.prompt_id).await.unwrap();
    assert!(matches!(
        state,
        PromptState::Finished(PromptResult {
            outcome: PromptOutcome::Failed { .. },
            ..
        })
    ));
    comfy.outage().begin();
    let state = comfy.prompt_state(&submitted.prompt_id).await;
    assert!(matches!(state, Err(ComfyError::Unreachable(_))));
}
