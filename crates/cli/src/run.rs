//! One task, from the command line: begun in the background, so that it goes on whatever happens here.

use clap::Args;
use everstate_kernel::event::End;
use reqwest::Method;
use serde_json::json;

use crate::address::short;
use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use crate::session::watch::follow;

/// Give a task to a model, and watch it
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What is to be done
    task: String,
    /// Which model; `rehearsal` is a simulation that needs no key
    #[arg(long, default_value = "rehearsal")]
    model: String,
    /// Tools of the server's configuration, by name
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tools: Vec<String>,
    /// Only start it, and say where it is
    #[arg(long)]
    detach: bool,
}

impl Run {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let client = desk.client()?;
        let mut body = json!({
            "model": self.model,
            "input": self.task,
            "background": true,
            "stream": true,
            "store": true,
        });
        if !self.tools.is_empty() {
            let ours =
                json!({ "type": "mcp", "server_label": "everstate", "allowed_tools": self.tools });
            body["tools"] = json!([ours]);
        }
        let mut stream = client.stream(Method::POST, "/v1/responses", Some(&body)).await?;
        let first = stream.next().await?;
        let told = first.and_then(|it| serde_json::from_str::<serde_json::Value>(&it.data).ok());
        let response = told.as_ref().and_then(|it| it["response"]["id"].as_str());
        let (Some(response), Some(session)) = (response, stream.session.take()) else {
            let text = "the server named no response, or not its session";
            return Err(Fault::new(&codes::NONSENSE, text));
        };
        if self.model == "rehearsal" && !desk.out.is_json {
            desk.out.note("rehearsal: a simulation, no model is called, no key is used");
        }
        let id = short(&session);
        if self.detach {
            match desk.out.is_json {
                true => desk.out.json(&json!({ "session": session, "response": response })),
                false => desk.out.line(&format!("{session}\nnext: everstate session watch {id}")),
            }
            return Ok(());
        }
        // It is in the background: nothing is lost by not listening to it any more.
        drop(stream);
        let timeline = follow(desk, &session, true).await?;
        desk.out.say(&format!("next: everstate explain {id}/1.1    everstate session show {id}"));
        let waiting = !timeline.waiting().is_empty();
        let turns = &timeline.session().transcript.turns;
        match turns.values().last().and_then(|it| it.end.as_ref()) {
            Some(End::Completed) if waiting => {
                Err(Fault::new(&codes::WAITS_FOR_PERSON, format!("{id} waits for a person"))
                    .attempt("everstate approval list"))
            }
            Some(End::Completed | End::Steered) | None => Ok(()),
            Some(end @ (End::Failed { .. } | End::Incomplete(_) | End::Cancelled(_))) => {
                let fault = Fault::new(&codes::TURN_FAILED, crate::timeline::words::end(end));
                Err(fault.attempt(format!("everstate explain {id}/1.1")))
            }
        }
    }
}
