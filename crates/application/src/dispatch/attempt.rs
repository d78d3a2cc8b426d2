use std::sync::Arc;
use std::time::Duration;

use atelier_domain::graph::PromptGraph;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{ClaimedRun, PromptOutcome, PromptResult, PromptState, ReleaseReason};
use atelier_domain::run::{RunFailure, RunFailureCode, RunPhase};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::collection::{Collection, CollectionError};
use super::ending::{Ending, Stop};
use super::event_link::Follower;
use super::failure_words as words;
use super::following::{Followed, Following};
use super::ledger::RunLedger;
use super::lora_check::{takes_another, unresolved};
use super::reporter::Reporter;
use super::stage::{Stage, StagePoint};
use super::station::{Shared, Station, bounded};
use super::submission::{Submission, Submitted};

/// How often an earlier attempt's backend is asked before it counts as gone.
const EARLIER_LOOKS: u32 = 3;

/// One attempt at one run, step by step.
pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) station: &'a Arc<Station>,
    pub(super) claimed: &'a ClaimedRun,
    pub(super) ledger: &'a RunLedger,
    pub(super) reporter: &'a Reporter,
    pub(super) cancel: watch::Receiver<bool>,
    pub(super) stage: &'a Stage,
}

impl Attempt<'_> {
    pub(super) async fn perform(&self) -> Result<Ending, Stop> {
        if let Some((home, prompt_id)) = self.earlier_prompt().await? {
            tracing::info!(
                backend = home.name,
                "an earlier attempt lives; following it"
            );
            self.reporter.prompt_id(prompt_id.clone());
            // Its socket was another process's.
            let follower = home.link.follow(&prompt_id, None);
            return self.follow(&home, &follower, None).await;
        }
        let Ok(graph) = self.claimed.graph.parse() else {
            return Ok(Ending::failed(words::unreadable_graph()));
        };
        let paths = self.bring_loras().await?;
        self.check_loras(&graph, &paths).await?;
        if *self.cancel.borrow() {
            return Ok(Ending::Cancelled(Vec::new()));
        }
        self.reporter.prompt_id(self.claimed.run_id.to_string());
        self.reporter.phase(RunPhase::Submitting);
        let follower = self.submit(&graph, &paths).await?;
        self.follow(self.station, &follower, Some(&graph)).await
    }

    /// An earlier attempt's prompt that a backend still knows.
    async fn earlier_prompt(&self) -> Result<Option<(Arc<Station>, String)>, Stop> {
        let claimed = self.claimed;
        let was_begun = claimed.attempt > 1
            || claimed.earlier_backend.is_some()
            || claimed.comfyui_prompt_id.is_some();
        if !was_begun {
            return Ok(None);
        }
        let prompt_id = claimed
            .comfyui_prompt_id
            .clone()
            .unwrap_or_else(|| claimed.run_id.to_string());
        // Without a name it is this one, if any; a backend that only another
        // worker serves cannot be asked from here.
        let home = match &claimed.earlier_backend {
            None => Some(self.station),
            Some(name) => self
                .shared
                .stations
                .iter()
                .find(|known| known.name == *name),
        };
        if let Some(home) = home
            && self.lives_at(home, &prompt_id).await?
        {
            return Ok(Some((Arc::clone(home), prompt_id)));
        }
        // An attempt that itself followed an earlier one left it where it was.
        let is_home = |station: &Arc<Station>| home.is_some_and(|home| Arc::ptr_eq(home, station));
        for station in self
            .shared
            .stations
            .iter()
            .filter(|station| !is_home(station))
        {
            match station.prompt_state(&prompt_id).await {
                Ok(PromptState::Unknown) | Err(_) => {}
                Ok(_) => return Ok(Some((Arc::clone(station), prompt_id))),
            }
        }
        Ok(None)
    }

    /// Whether an earlier attempt's backend still knows its prompt.
    async fn lives_at(&self, home: &Arc<Station>, prompt_id: &str) -> Result<bool, Stop> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
        let mut unknown = 0;
        for _ in 0..EARLIER_LOOKS {
            match home.prompt_state(prompt_id).await {
                Ok(PromptState::Unknown) => unknown += 1,
                Ok(_) => return Ok(true),
                Err(error) => {
                    tracing::warn!(
                        backend = home.name,
                        error = &error as &dyn std::error::Error,
                        "a backend did not say whether an earlier attempt lives"
                    );
                    home.mark_unreachable();
                }
            }
            // It may still have been on its way in, so one look is not enough.
            if unknown >= 2 {
                return Ok(false);
            }
            sleep(backoff.next()).await;
        }
        if unknown == 0 && Arc::ptr_eq(home, self.station) {
            return Err(Ending::Released(ReleaseReason::WorkerLost).into());
        }
        Ok(false)
    }

    /// Puts the run's LoRAs on the backend's disk.
    async fn bring_loras(&self) -> Result<Vec<LoraPath>, Stop> {
        if self.claimed.lora_ids.is_empty() {
            return Ok(Vec::new());
        }
        let until = Instant::now() + self.shared.settings.patience;
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        let bringing = async {
            loop {
                match self.bring_loras_once().await {
                    Ok(paths) => return Ok(paths),
                    Err(error) if error.is_transient() && Instant::now() < until => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "LoRAs could not be brought; trying again"
                        );
                        sleep(backoff.next()).await;
                    }
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "LoRAs could not be brought"
                        );
                        return Err(if error.is_transient() {
                            Ending::Released(ReleaseReason::BackendLost)
                        } else {
                            Ending::failed(words::lora_sync(&error))
                        });
                    }
                }
            }
        };
        self.unless_cancelled(bringing).await?.map_err(Stop::Ended)
    }

    async fn bring_loras_once(&self) -> Result<Vec<LoraPath>, crate::sync::LoraSyncError> {
        let plan = self.station.sync.plan(&self.claimed.lora_ids).await?;
        if !plan.is_complete() {
            self.reporter.phase(RunPhase::SyncingLoras);
            self.station.sync.carry_out(&plan).await?;
        }
        Ok(plan.paths().to_vec())
    }

    /// The last look before the backend gets the graph: it names LoRAs of this
    /// run and files that this backend itself offers, and nothing else.
    async fn check_loras(&self, graph: &PromptGraph, paths: &[LoraPath]) -> Result<(), Stop> {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let client = &self.station.client;
        let known = self.shared.catalogue.known_of(client);
        if !takes_another(graph, &paths) && unresolved(graph, &paths, known.as_deref()).is_none() {
            return Ok(());
        }
        let fresh = match bounded(self.shared.catalogue.ask(client)).await {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a backend did not say which LoRAs it offers"
                );
                self.station.mark_unreachable();
                return Err(Ending::Released(ReleaseReason::BackendLost).into());
            }
        };
        match unresolved(graph, &paths, Some(&fresh)) {
            None => Ok(()),
            Some(input) => Err(Ending::failed(words::lora_not_offered(&input)).into()),
        }
    }

    async fn submit(&self, graph: &PromptGraph, paths: &[LoraPath]) -> Result<Follower, Stop> {
        let run = self.claimed.run_id;
        let settings = &self.shared.settings;
        let connection = self.station.link.live();
        // Listening begins first: what is said before the answer is here counts.
        let follower = self
            .station
            .link
            .follow(&run.to_string(), connection.as_ref());
        let submission = Submission {
            station: self.station,
            run,
            client_id: connection.as_ref().map_or_else(
                || format!("atelier-{run}"),
                |connection| connection.client_id.clone(),
            ),
            graph: self.claimed.graph.clone(),
            extra_data: self.provenance(),
            patience: settings.patience,
        };
        match submission.hand_over().await {
            Submitted::Accepted { prompt_id } if prompt_id == follower.prompt_id() => Ok(follower),
            Submitted::Accepted { prompt_id } => {
                // Before anything else: without it nobody finds the prompt again.
                self.reporter.store_prompt_id(prompt_id.clone()).await?;
                Ok(self.station.link.follow(&prompt_id, connection.as_ref()))
            }
            Submitted::Dropped { prompt_id, nodes } => {
                if let Err(error) = bounded(self.station.client.cancel(&prompt_id)).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a prompt that lost outputs was not cancelled"
                    );
                }
                Err(Ending::failed(words::rejected_nodes(graph, paths, &nodes)).into())
            }
            Submitted::Rejected(rejection) => {
                Err(Ending::failed(words::rejected(graph, paths, &rejection)).into())
            }
            Submitted::Broken => Err(Ending::failed(words::broken()).into()),
            Submitted::Unauthorized { status } => {
                self.station.mark_unreachable();
                Err(Ending::failed(words::unauthorized(&self.station.name, status)).into())
            }
            Submitted::Away { may_live } => {
                self.station.mark_unreachable();
                Err(Ending::Released(if may_live {
                    ReleaseReason::WorkerLost
                } else {
                    ReleaseReason::BackendLost
                })
                .into())
            }
        }
    }

    /// What goes into the pictures beside the prompt: an object, or listing jobs
    /// breaks for everybody (`reference/comfyui/PROTOCOL.md` section 3).
    fn provenance(&self) -> Value {
        json!({
            "extra_pnginfo": {
                "atelier": {
                    "run_id": self.claimed.run_id,
                    "workflow_id": self.claimed.workflow_id,
                    "attempt": self.claimed.attempt,
                }
            }
        })
    }

    async fn follow(
        &self,
        home: &Arc<Station>,
        follower: &Follower,
        graph: Option<&PromptGraph>,
    ) -> Result<Ending, Stop> {
        let settings = &self.shared.settings;
        let following = Following {
            station: home,
            follower,
            reporter: self.reporter,
            nodes_total: self.claimed.nodes_total,
            silence: settings.silence,
            patience: settings.patience,
        };
        let mut cancel = self.cancel.clone();
        let followed = following.to_the_end(&mut cancel).await;
        let cancelled = *cancel.borrow();
        Ok(match followed {
            Followed::Finished(result) => self.collect(home, result, graph, cancelled).await,
            _ if cancelled => Ending::Cancelled(Vec::new()),
            Followed::Lost => Ending::Released(ReleaseReason::BackendLost),
            Followed::Away | Followed::LeftAlone => Ending::Released(ReleaseReason::WorkerLost),
        })
    }

    async fn collect(
        &self,
        home: &Arc<Station>,
        result: PromptResult,
        graph: Option<&PromptGraph>,
        cancelled: bool,
    ) -> Ending {
        self.stage.reach(StagePoint::Storing);
        self.reporter.phase(RunPhase::StoringOutputs);
        let parsed;
        let graph = if let Some(graph) = graph {
            Some(graph)
        } else {
            parsed = self.claimed.graph.parse().ok();
            parsed.as_ref()
        };
        let mut collection = Collection::new(
            home.client.as_ref(),
            self.shared.blobs.as_ref(),
            self.claimed,
            self.shared.settings.patience,
        );
        let failure = match &result.outcome {
            PromptOutcome::Success => None,
            PromptOutcome::Interrupted => Some(words::interrupted()),
            PromptOutcome::Failed {
                node_id,
                node_type,
                exception_type,
            } => Some(words::execution(
                graph,
                node_id.as_deref(),
                node_type.as_deref(),
                exception_type.as_deref(),
            )),
        };
        let mut cancel = self.cancel.clone();
        let outcome = tokio::select! {
            biased;
            outcome = collection.bring_home(&result.outputs) => outcome,
            // One that was cancelled before brings home what there is.
            Ok(_) = cancel.wait_for(|cancelled| *cancelled), if !cancelled => {
                return Ending::Cancelled(collection.into_stored());
            }
        };
        let stored = collection.into_stored();
        if cancelled {
            return Ending::Cancelled(stored);
        }
        match (failure, outcome) {
            // What is there of a failed run is better than nothing.
            (Some(failure), _) => Ending::Failed(failure, stored),
            (None, Ok(())) if stored.is_empty() && graph.is_some_and(words::promises_outputs) => {
                Ending::failed(words::no_outputs())
            }
            (None, Ok(())) => Ending::Completed(stored),
            (None, Err(CollectionError::Lost { node_id })) => {
                let failure = RunFailure::new(
                    RunFailureCode::OutputLost,
                    "ComfyUI no longer has a file that the run made; run the workflow again",
                );
                Ending::Failed(failure.at_node(Some(node_id), None), stored)
            }
            (None, Err(CollectionError::Away(error))) => {
                tracing::warn!(
                    error,
                    "outputs could not be brought home; giving the run back"
                );
                Ending::Released(ReleaseReason::WorkerLost)
            }
        }
    }

    async fn unless_cancelled<T>(&self, step: impl Future<Output = T>) -> Result<T, Stop> {
        let mut cancel = self.cancel.clone();
        tokio::select! {
            biased;
            Ok(_) = cancel.wait_for(|cancelled| *cancelled) => Err(Ending::Cancelled(Vec::new()).into()),
            outcome = step => Ok(outcome),
        }
    }
}
