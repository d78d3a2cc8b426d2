use std::sync::Arc;
use std::time::Duration;

use atelier_domain::graph::{GraphWork, PromptGraph};
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{ClaimedRun, PromptOutcome, PromptResult, PromptState, ReleaseReason};
use atelier_domain::run::{RunFailure, RunFailureCode, RunPhase, RunProgress};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::backoff::Backoff;
use super::collection::{Collection, CollectionError};
use super::ending::{Ending, Stop, Wish, Wishes, wished};
use super::event_link::Follower;
use super::failure_words as words;
use super::following::{Followed, Following};
use super::ledger::RunLedger;
use super::lora_check::{takes_another, unresolved};
use super::reporter::Reporter;
use super::stage::{Stage, StagePoint};
use super::station::{Shared, Station};
use super::submission::{Submission, Submitted};

/// How often the backend is asked for an earlier attempt before it counts as
/// away.
const EARLIER_LOOKS: u32 = 3;

/// One attempt at one run, step by step.
pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) station: &'a Arc<Station>,
    pub(super) claimed: &'a ClaimedRun,
    pub(super) ledger: &'a RunLedger,
    pub(super) reporter: &'a Reporter,
    pub(super) wishes: Wishes,
    pub(super) stage: &'a Stage,
}

impl Attempt<'_> {
    pub(super) async fn perform(&self) -> Result<Ending, Stop> {
        let Ok(graph) = self.claimed.graph.parse() else {
            return Ok(Ending::failed(words::unreadable_graph()));
        };
        let work = graph.work();
        if let Some(prompt_id) = &self.claimed.resumes {
            self.stage.reach(StagePoint::Underway);
            if self.is_alive(prompt_id).await? {
                tracing::info!("an earlier attempt lives; following it");
                self.station.mark_up();
                // Its socket was another process's.
                let follower = self.station.link.follow(prompt_id, None);
                return self.follow(&follower, &graph, &work).await;
            }
            self.stage.reach(StagePoint::Preparing);
        }
        if let Some(refused) = words::refused_node(&graph, &self.shared.policy) {
            return Ok(Ending::failed(refused));
        }
        let paths = self.bring_loras().await?;
        let placed = self.place_inputs().await?;
        self.check_inputs(&graph, &placed).await?;
        self.check_loras(&graph, &paths).await?;
        if let Some(wish) = *self.wishes.borrow() {
            return Ok(wish.ending(Vec::new()));
        }
        self.stage.reach(StagePoint::Underway);
        self.reporter.phase(RunPhase::Submitting);
        let follower = self.submit(&graph, &paths).await?;
        self.station.loads(graph.checkpoint());
        self.follow(&follower, &graph, &work).await
    }

    /// Whether the backend still knows an earlier attempt's prompt.
    async fn is_alive(&self, prompt_id: &str) -> Result<bool, Stop> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
        let (mut unknown, mut away) = (0, 0);
        loop {
            match self.station.prompt_state(prompt_id).await {
                Ok(PromptState::Unknown) => unknown += 1,
                Ok(_) => return Ok(true),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a backend did not say whether an earlier attempt lives"
                    );
                    self.station.mark_down();
                    away += 1;
                }
            }
            // It may still have been on its way in, and its history may be late.
            if unknown >= 2 {
                return Ok(false);
            }
            if away >= EARLIER_LOOKS {
                return Err(Ending::Released(ReleaseReason::BackendAway).into());
            }
            sleep(backoff.next()).await;
        }
    }

    /// Puts the run's LoRAs on the backend's disk.
    #[tracing::instrument(name = "sync_loras", skip_all)]
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
        let mut wishes = self.wishes.clone();
        tokio::select! {
            biased;
            wish = wished(&mut wishes) => Err(wish.ending(Vec::new()).into()),
            brought = bringing => brought.map_err(Stop::Ended),
        }
    }

    async fn bring_loras_once(&self) -> Result<Vec<LoraPath>, crate::sync::LoraSyncError> {
        let plan = self.station.sync.plan(&self.claimed.lora_ids).await?;
        if !plan.is_complete() {
            self.reporter.phase(RunPhase::SyncingLoras);
            // That may take minutes: another run may try the backend out.
            self.station.end_trial();
            let all = plan.missing_bytes();
            let tell = |done: u64| {
                self.reporter.progress(RunProgress {
                    nodes_total: self.claimed.nodes_total,
                    lora_bytes_done: Some(done),
                    lora_bytes_total: Some(all),
                    ..RunProgress::default()
                });
            };
            self.station.sync.carry_out(&plan, &tell).await?;
        }
        self.tell_loras().await;
        Ok(plan.paths().to_vec())
    }

    /// So that other runs with the same LoRAs come here.
    async fn tell_loras(&self) {
        let untold = self.station.untold(&self.claimed.lora_ids);
        if !untold.is_empty() {
            let queue = self.shared.queue.as_ref();
            self.station.tell_loras(queue, untold).await;
        }
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
        let fresh = match self.station.answer(self.shared.catalogue.ask(client)).await {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a backend did not say which LoRAs it offers"
                );
                self.station.mark_down();
                return Err(Ending::Released(ReleaseReason::BackendLost).into());
            }
        };
        match unresolved(graph, &paths, Some(&fresh)) {
            None => Ok(()),
            Some(input) => Err(Ending::failed(words::lora_not_offered(&input)).into()),
        }
    }

    #[tracing::instrument(name = "submit", skip_all)]
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
            extra_data: self.extra_data(),
            patience: settings.patience,
        };
        match submission.hand_over().await {
            Submitted::Accepted { prompt_id } if prompt_id == follower.prompt_id() => {
                self.station.mark_up();
                Ok(follower)
            }
            Submitted::Accepted { prompt_id } => {
                self.station.mark_up();
                // Before anything else: without it nobody finds the prompt again.
                self.reporter.store_prompt_id(prompt_id.clone()).await?;
                Ok(self.station.link.follow(&prompt_id, connection.as_ref()))
            }
            Submitted::Dropped { prompt_id, nodes } => {
                if let Err(error) = self
                    .station
                    .answer(self.station.client.cancel(&prompt_id))
                    .await
                {
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
            Submitted::Broken => Err(Ending::Released(ReleaseReason::ExecutionLost).into()),
            Submitted::Unauthorized { status } => {
                tracing::error!(
                    status,
                    "a backend, or what stands in front of it, wants other credentials"
                );
                self.station.mark_down();
                Err(Ending::Released(ReleaseReason::BackendLost).into())
            }
            Submitted::Away { may_live } => {
                self.station.mark_down();
                Err(Ending::Released(if may_live {
                    ReleaseReason::BackendAway
                } else {
                    ReleaseReason::BackendLost
                })
                .into())
            }
        }
    }

    /// What goes into the pictures beside the prompt: an object, or listing jobs
    /// breaks for everybody (`reference/comfyui/PROTOCOL.md` section 3). And the
    /// cheapest previews: whether anybody will watch is not known yet, and they
    /// cannot be asked for later.
    fn extra_data(&self) -> Value {
        json!({
            "preview_method": "latent2rgb",
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
        follower: &Follower,
        graph: &PromptGraph,
        work: &GraphWork,
    ) -> Result<Ending, Stop> {
        let settings = &self.shared.settings;
        let following = Following {
            station: self.station,
            follower,
            reporter: self.reporter,
            work,
            silence: settings.silence,
            patience: settings.patience,
        };
        let mut wishes = self.wishes.clone();
        let followed = following
            .to_the_end(&mut wishes)
            .instrument(tracing::info_span!("follow"))
            .await;
        let wish = *wishes.borrow();
        Ok(match (followed, wish) {
            (Followed::Finished(result), wish) => self.collect(result, graph, wish).await,
            (_, Some(wish)) => wish.ending(Vec::new()),
            (Followed::Lost { had_begun: true }, None) => {
                Ending::Released(ReleaseReason::ExecutionLost)
            }
            (Followed::Lost { had_begun: false }, None) => {
                Ending::Released(ReleaseReason::BackendLost)
            }
            (Followed::Away | Followed::LeftAlone, None) => {
                Ending::Released(ReleaseReason::BackendAway)
            }
        })
    }

    #[tracing::instrument(name = "collect", skip_all)]
    async fn collect(
        &self,
        result: PromptResult,
        graph: &PromptGraph,
        wish: Option<Wish>,
    ) -> Ending {
        self.stage.reach(StagePoint::Storing);
        self.reporter.phase(RunPhase::StoringOutputs);
        let mut collection = Collection::new(
            self.station.client.as_ref(),
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
                Some(graph),
                node_id.as_deref(),
                node_type.as_deref(),
                exception_type.as_deref(),
            )),
        };
        let mut wishes = self.wishes.clone();
        let outcome = tokio::select! {
            biased;
            outcome = collection.bring_home(&result.outputs) => outcome,
            // One that was stopped before brings home what there is.
            wish = wished(&mut wishes), if wish.is_none() => {
                return wish.ending(collection.into_stored());
            }
        };
        let stored = collection.into_stored();
        if let Some(wish) = wish {
            return wish.ending(stored);
        }
        match (failure, outcome) {
            // What is there of a failed run is better than nothing.
            (Some(failure), _) => Ending::Failed(failure, stored),
            (None, Ok(())) if stored.is_empty() && words::promises_outputs(graph) => {
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
}
