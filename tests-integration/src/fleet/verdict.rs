//! Whether runs ended as they must: completed, with their outputs, once.

use std::time::Duration;

use atelier_testkit::build::sha256_of;
use reqwest::Method;
use serde_json::Value;

use super::Fleet;

/// How many complaints are told in full.
const TOLD: usize = 12;

impl Fleet {
    /// Waits for the end of these runs; then each is completed and has its picture, was taken in
    /// and executed once by all backends together, and nothing is held in the database.
    ///
    /// # Panics
    /// With everything that is not so.
    pub async fn assert_done_once(&self, runs: &[String], patience: Duration) {
        let over = self.await_all(runs, patience).await;
        let mut complaints = self.complaints_about_results(&over).await;
        for run in runs {
            let (submissions, executions) = (self.submissions(run), self.executions(run));
            if (submissions, executions) != (1, 1) {
                complaints.push(format!(
                    "{run}: submitted {submissions} times, executed {executions} times"
                ));
            }
        }
        self.assert_none(runs, &complaints);
    }

    /// The same for runs that backends may have lost: each is executed at least once, and at most
    /// once and `allowance` times more.
    ///
    /// # Panics
    /// With everything that is not so.
    pub async fn assert_done_within(
        &self,
        runs: &[String],
        patience: Duration,
        allowance: impl Fn(&str) -> u32,
    ) {
        let over = self.await_all(runs, patience).await;
        let mut complaints = self.complaints_about_results(&over).await;
        for run in runs {
            let (allowed, executions) = (1 + allowance(run), self.executions(run));
            if !(1..=allowed).contains(&executions) {
                complaints.push(format!(
                    "{run}: executed {executions} times, {allowed} would have been right"
                ));
            }
        }
        self.assert_none(runs, &complaints);
    }

    /// Whether no run is claimed by anybody.
    pub async fn holds_no_lease(&self) -> bool {
        let sql = "select count(*) from comfyui_workflow_runs \
                   where status = 'running' or claim_token is not null or lease_until is not null";
        self.database.count(sql).await == 0
    }

    fn assert_none(&self, runs: &[String], complaints: &[String]) {
        assert!(
            complaints.is_empty(),
            "{} complaints about {} runs:\n{}\n{}",
            complaints.len(),
            runs.len(),
            complaints.get(..TOLD).unwrap_or(complaints).join("\n"),
            self.last_words()
        );
    }

    async fn complaints_about_results(&self, over: &[Value]) -> Vec<String> {
        let mut complaints = Vec::new();
        for run in over {
            if run["status"] == "completed" {
                complaints.extend(self.complaint_about_output(run).await);
            } else {
                complaints.push(format!("not completed: {run}"));
            }
        }
        if !self.holds_no_lease().await {
            complaints.push("a run is held still".to_owned());
        }
        complaints
    }

    /// The one picture of the run is there and is what the run says.
    async fn complaint_about_output(&self, run: &Value) -> Option<String> {
        let outputs = run["outputs"].as_array().map_or(0, Vec::len);
        if outputs != 1 {
            return Some(format!("{outputs} outputs instead of one: {run}"));
        }
        let output = &run["outputs"][0];
        let url = output["url"].as_str().unwrap_or_default();
        let answer = self.client.send(self.client.at(Method::GET, url)).await;
        let digest = sha256_of(&answer.bytes).to_string();
        let right = answer.status == 200 && output["sha256"] == digest;
        (!right).then(|| format!("{}, {digest}: another output than in {run}", answer.status))
    }
}
