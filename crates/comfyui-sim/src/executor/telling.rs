//! What a run tells: progress, previews, outputs, and how it ended.

use axum::extract::ws::Message;
use serde_json::{Map, Value, json};

use super::run::{Run, Submitter};
use crate::events::{Audience, text_frame};
use crate::instance::now_ms;
use crate::json::Ordered;
use crate::nodes::Call;
use crate::options::PreviewMethod;

impl Run<'_> {
    /// One step of a sampler: progress, and a preview if somebody wants one.
    pub(crate) fn sampler_step(
        &self,
        node_id: &str,
        step: u64,
        steps: u64,
        preview: impl FnOnce() -> Vec<u8>,
    ) {
        self.set_progress(node_id, &json!(step), &json!(steps), "running");
        let with_metadata = match &self.submitter {
            Submitter::Client(client_id) => self
                .instance
                .sockets
                .supports(client_id, "supports_preview_metadata"),
            Submitter::Unreachable | Submitter::Unknown => false,
        };
        let preview = self.wants_previews().then(preview);
        if with_metadata && let Some(picture) = &preview {
            self.shared(self.preview_with_metadata(node_id, picture));
        }
        self.tell_progress(node_id, step, steps);
        if !with_metadata && let Some(picture) = &preview {
            self.shared(binary_frame(&[1, 1], picture));
        }
    }

    /// A final picture that goes to the client instead of into a file.
    pub(crate) fn final_picture(&self, node_id: &str, position: u64, count: u64, png: &[u8]) {
        self.set_progress(node_id, &json!(position), &json!(count), "running");
        self.tell_progress(node_id, position, count);
        self.shared(binary_frame(&[1, 2], png));
    }

    fn preview_with_metadata(&self, node_id: &str, picture: &[u8]) -> Message {
        let metadata = Ordered(vec![
            ("node_id".to_owned(), json!(node_id)),
            ("prompt_id".to_owned(), json!(self.item.prompt_id)),
            ("display_node_id".to_owned(), json!(node_id)),
            ("parent_node_id".to_owned(), Value::Null),
            ("real_node_id".to_owned(), json!(node_id)),
            ("image_type".to_owned(), json!("image/jpeg")),
        ]);
        let metadata = serde_json::to_vec(&metadata).unwrap_or_default();
        let length = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
        binary_frame(&[4, length], &[metadata.as_slice(), picture].concat())
    }

    fn wants_previews(&self) -> bool {
        let by_flag = self.instance.options.preview_method != PreviewMethod::None;
        let asked = self
            .item
            .extra_data
            .get("preview_method")
            .and_then(Value::as_str);
        match asked {
            Some(method) if self.instance.options.version.is_current() => match method {
                "none" => false,
                "auto" | "latent2rgb" | "taesd" => true,
                _ => by_flag,
            },
            _ => by_flag,
        }
    }

    fn tell_progress(&self, node_id: &str, value: u64, max: u64) {
        let data =
            json!({"value": value, "max": max, "prompt_id": self.item.prompt_id, "node": node_id});
        self.shared(text_frame("progress", &data));
    }

    pub(super) fn finish_progress(&self, node_id: &str) {
        let max = {
            let record = self.record.borrow();
            let entry = record.progress.iter().find(|(id, _)| id == node_id);
            entry
                .and_then(|(_, state)| state.get("max"))
                .cloned()
                .unwrap_or(json!(1.0))
        };
        self.set_progress(node_id, &max, &max, "finished");
    }

    pub(super) fn set_progress(&self, node_id: &str, value: &Value, max: &Value, state: &str) {
        let state = json!({
            "value": value,
            "max": max,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": null,
            "real_node_id": node_id,
        });
        let mut record = self.record.borrow_mut();
        match record.progress.iter_mut().find(|(id, _)| id == node_id) {
            Some((_, known)) => *known = state,
            None => record.progress.push((node_id.to_owned(), state)),
        }
        if self.submitter != Submitter::Unreachable {
            let nodes: Map<_, _> = record.progress.iter().cloned().collect();
            drop(record);
            self.shared(text_frame(
                "progress_state",
                &json!({"prompt_id": self.item.prompt_id, "nodes": nodes}),
            ));
        }
    }

    pub(super) fn show_output(&self, node_id: &str, ui: Option<&Value>) {
        let Some(ui) = ui else { return };
        self.record
            .borrow_mut()
            .outputs
            .push((node_id.to_owned(), ui.clone()));
        let times = if self.instance.faults.current().duplicate_executed {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.direct(|| {
                let prompt_id = &self.item.prompt_id;
                let data = json!({"node": node_id, "display_node": node_id, "output": ui, "prompt_id": prompt_id});
                text_frame("executed", &data)
            });
        }
    }

    pub(super) fn tell_interruption(&self, node_id: &str) {
        let data = stamped(json!({
            "prompt_id": self.item.prompt_id,
            "node_id": node_id,
            "node_type": self.item.prompt.class_type(node_id),
            "executed": self.record.borrow().executed,
        }));
        self.shared(text_frame("execution_interrupted", &data));
        self.record
            .borrow_mut()
            .messages
            .push(("execution_interrupted", data));
    }

    pub(super) fn tell_error(&self, call: &Call<'_>, exception: &str, message: &str) {
        let class_type = self.item.prompt.class_type(call.node_id);
        let hidden = self
            .instance
            .catalogue
            .get(class_type)
            .map(|class| class.definition.hidden)
            .unwrap_or_default();
        self.message(
            "execution_error",
            json!({
                "prompt_id": self.item.prompt_id,
                "node_id": call.node_id,
                "node_type": class_type,
                "executed": self.record.borrow().executed,
                "exception_message": format!("{message}\n"),
                "exception_type": exception,
                "traceback": ["  File \"/opt/ComfyUI/execution.py\", line 1, in simulated\n"],
                "current_inputs": call.described_arguments(hidden),
                "current_outputs": self.item.prompt.order,
            }),
        );
    }

    /// An event that is also kept in the history.
    pub(super) fn message(&self, kind: &'static str, data: Value) {
        let data = stamped(data);
        self.direct(|| text_frame(kind, &data));
        self.record.borrow_mut().messages.push((kind, data));
    }

    /// Sends a frame to the submitter alone.
    pub(super) fn direct(&self, frame: impl FnOnce() -> Message) {
        if let Submitter::Client(client_id) = &self.submitter {
            self.instance
                .publisher
                .send(Audience::Client(client_id.clone()), frame());
        }
    }

    /// Sends a frame to the submitter, or to everybody if the submitter is not known.
    fn shared(&self, frame: Message) {
        let audience = match &self.submitter {
            Submitter::Client(client_id) => Audience::Client(client_id.clone()),
            Submitter::Unknown => Audience::Everybody,
            Submitter::Unreachable => return,
        };
        self.instance.publisher.send(audience, frame);
    }
}

/// A binary frame: some 32-bit big-endian numbers, then bytes.
fn binary_frame(head: &[u32], bytes: &[u8]) -> Message {
    let mut frame: Vec<u8> = head
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    frame.extend_from_slice(bytes);
    Message::binary(frame)
}

/// The data of an event with the time in it.
fn stamped(mut data: Value) -> Value {
    if let Some(members) = data.as_object_mut() {
        members.insert("timestamp".to_owned(), json!(now_ms()));
    }
    data
}
