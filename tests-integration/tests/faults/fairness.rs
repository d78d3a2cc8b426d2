//! Many runs of one person, and what they mean for the others.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::client::id_of;
use atelier_tests_integration::fleet::FleetPlan;
use atelier_tests_integration::workflows::without_lora;
use serde_json::json;

use crate::ATELIER;

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_of_one_person_delay_nobody_else_by_more_than_one() {
    let mut fleet = FleetPlan::new(ATELIER)
        .max_in_flight(1)
        .step_delay(Duration::from_millis(50))
        .start()
        .await;
    fleet.kill_worker(0);
    let (busy, other) = (fleet.client.clone(), fleet.server.client());
    let workflow = busy.create_workflow(&without_lora(), true).await;
    // Long enough for the other one's run to come while it is executed.
    let first = busy.start_run(&workflow, &json!({"steps": 100})).await;
    let runs = fleet.submit_as(&busy, 999, &json!({"steps": 1})).await;
    fleet.start_worker(0);
    wait_until("the first run to be executed", PATIENCE, async || {
        fleet.executions(&first) == 1
    })
    .await;

    let run = other.start_run(&workflow, &json!({"steps": 1})).await;
    assert_eq!(fleet.begun(&runs), 0, "the other one came too late");
    let over = other.finished_run(&run).await;

    assert_eq!(over["status"], "completed", "{over}");
    let before = format!(
        "select count(*) from comfyui_workflow_runs as run, comfyui_workflow_runs as other \
         where other.id = '{run}' and run.id <> other.id and run.started_at <= other.started_at"
    );
    assert_eq!(fleet.database.count(&before).await, 1);
    let waiting = "select count(*) from comfyui_workflow_runs where status = 'pending'";
    assert!(fleet.database.count(waiting).await >= 900, "nobody waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_take_turns() {
    const EACH: usize = 6;
    let mut fleet = FleetPlan::new(ATELIER)
        .max_in_flight(1)
        .step_delay(Duration::from_millis(5))
        .start()
        .await;
    fleet.kill_worker(0);
    let people = [
        fleet.client.clone(),
        fleet.server.client(),
        fleet.server.client(),
    ];
    let workflow = people[0].create_workflow(&without_lora(), true).await;
    let mut runs = Vec::new();
    for person in &people {
        for seed in 0..EACH {
            let body = json!({"input_params": {"seed": seed}});
            let path = format!("/workflows/{workflow}/run");
            runs.push(id_of(&person.post(&path, &body).await.expect(202)));
        }
    }

    fleet.start_worker(0);
    wait_until("everything to be over", PATIENCE, async || {
        fleet.unfinished().await == 0
    })
    .await;

    // In every round each person's turn comes once.
    let sql = "select string_agg(distinct people::text, ' ') from (\
                 select count(distinct user_id) as people from (\
                   select user_id, (row_number() over (order by started_at) - 1) / 3 as round \
                   from comfyui_workflow_runs where status = 'completed'\
                 ) as turns group by round\
               ) as rounds";
    assert_eq!(fleet.database.text(sql).await, "3");
    assert_eq!(fleet.begun(&runs), people.len() * EACH);
}
