//! Every word an error can carry, in one table: what the door answers, whether repeating helps, how the command
//! line exits, and what `everstate explain CODE` says about it. Words are never renamed and never reused.

/// One word and all that follows from it.
#[derive(Debug)]
pub struct Code {
    pub word: &'static str,
    pub status: u16,
    /// The `type` of the API's own error shape.
    pub kind: &'static str,
    /// Does sending the same request again help?
    pub retry: bool,
    /// How the command line exits.
    pub exit: u8,
    pub explain: &'static str,
}

impl PartialEq for Code {
    fn eq(&self, other: &Code) -> bool {
        self.word == other.word
    }
}

const INVALID: &str = "invalid_request_error";
const AUTH: &str = "authentication_error";
const DENIED: &str = "permission_error";
const BUSY: &str = "rate_limit_error";
const SERVER: &str = "server_error";

macro_rules! codes {
    ($($name:ident: $word:literal, $status:literal, $kind:ident, $retry:literal, exit $exit:literal, $explain:literal;)*) => {
        $(pub static $name: Code = Code {
            word: $word, status: $status, kind: $kind, retry: $retry, exit: $exit, explain: $explain,
        };)*
        /// All of them.
        pub static CODES: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    // The request itself.
    INVALID_JSON: "invalid_json", 400, INVALID, false, exit 2,
        "The body is not valid JSON in UTF-8, or is nested too deeply. Nothing was done with it.";
    INVALID_VALUE: "invalid_value", 400, INVALID, false, exit 2,
        "A field has a value of the wrong type, or one that is not allowed there. `param` names the field.";
    UNSUPPORTED: "unsupported", 400, INVALID, false, exit 2,
        "The request asks for something this release does not do. It was refused whole, so that nothing is silently left out.";
    BODY_TOO_LARGE: "body_too_large", 413, INVALID, false, exit 2,
        "The body is larger than `server.body_max_bytes` allows (64 MiB unless configured).";
    UNKNOWN_URL: "unknown_url", 404, INVALID, false, exit 3,
        "There is nothing at this address, or not yet.";
    NOT_YET: "not_available_yet", 501, INVALID, false, exit 2,
        "This part of the API is not served by this release. Nothing was done.";
    METHOD_NOT_ALLOWED: "method_not_allowed", 405, INVALID, false, exit 2,
        "The address exists, and does not take this method.";

    // Who asks.
    INVALID_API_KEY: "invalid_api_key", 401, AUTH, false, exit 4,
        "No key was sent, or one that this server does not know, or one that has expired or was revoked. Send `Authorization: Bearer KEY`. \
         The admin key is the one in EVERSTATE_ADMIN_KEY, or the one shown when the server first started.";
    ADMIN_ONLY: "admin_only", 403, DENIED, false, exit 4,
        "This needs the admin key; the key that was sent belongs to one project.";
    MISSING_SCOPE: "missing_scope", 403, DENIED, false, exit 4,
        "The key is known, and may not do this: it lacks the scope that the message names. docs/reference/access.md says which operation asks for which.";

    KEY_LIMIT_REACHED: "key_limit_reached", 429, BUSY, true, exit 8,
        "The key has asked as often as it may, has as many turns at work as it may, or its turns have used its tokens. `retry-after` says when to ask again.";
    PROJECT_STOPPED: "project_stopped", 409, INVALID, false, exit 6,
        "Somebody has stopped the project: no turn begins in it until `everstate start` lifts that. What was there is kept.";

    // What is asked for.
    NOT_FOUND: "not_found", 404, INVALID, false, exit 3,
        "There is no such thing in this project. It may never have been, or have been deleted, or belong to another project.";
    MODEL_NOT_FOUND: "model_not_found", 404, INVALID, false, exit 3,
        "No offer has a model of this name. `everstate doctor` and GET /v1/models say which there are.";
    PREVIOUS_RESPONSE_NOT_FOUND: "previous_response_not_found", 400, INVALID, false, exit 3,
        "The response to continue from does not exist in this project, was not stored, or was deleted.";
    PREVIOUS_RESPONSE_UNFINISHED: "previous_response_unfinished", 400, INVALID, false, exit 6,
        "The response to continue from is still at work. Wait for its end, or cancel it.";
    STREAMING_NOT_ENABLED: "streaming_not_enabled", 400, INVALID, false, exit 2,
        "Only responses made with `background` and `stream` keep the events of their stream.";
    NOT_IN_BACKGROUND: "not_in_background", 400, INVALID, false, exit 2,
        "Only responses made with `background` can be cancelled; to end another, close its connection.";

    // Calls and approvals.
    CALL_UNANSWERED: "call_unanswered", 400, INVALID, false, exit 2,
        "The conversation has a function call without an output. A model is never asked with an unanswered call: send the output with the input.";
    CALL_NOT_FOUND: "call_not_found", 400, INVALID, false, exit 2,
        "The output is for a call that was never made in this conversation.";
    CALL_ANSWERED: "call_answered", 400, INVALID, false, exit 6,
        "The call has its output already. The first one counts.";
    APPROVAL_NOT_FOUND: "approval_not_found", 400, INVALID, false, exit 3,
        "No approval with this id was asked for in this conversation. An approval counts only for a request in our own log.";
    APPROVAL_ANSWERED: "approval_answered", 400, INVALID, false, exit 6,
        "The approval has its answer already. The first one counts.";
    APPROVAL_EXPIRED: "approval_expired", 410, INVALID, false, exit 5,
        "The approval was not answered in time. The tool was not run, and the model was told so.";
    APPROVAL_MISSING: "approval_missing", 400, INVALID, false, exit 7,
        "A call waits for a person's approval. Answer it with an `mcp_approval_response`, or `everstate approval approve`.";

    // Sessions.
    SESSION_BUSY: "session_busy", 409, INVALID, true, exit 6,
        "Another turn of this session is running. Its end makes room.";
    SESSION_PARKED: "session_parked", 409, INVALID, false, exit 6,
        "The session cannot go on, for the reason given. Its neighbours do not notice.";
    NOT_POSSIBLE: "not_possible", 409, INVALID, false, exit 6,
        "The session is not in a state in which this can be done.";
    FENCED: "fenced", 409, INVALID, true, exit 6,
        "Another node owns the session now. Nothing is lost; the request can be sent again.";

    // Repeats.
    IDEMPOTENCY_KEY_REUSED: "idempotency_key_reused", 422, INVALID, false, exit 2,
        "This Idempotency-Key was used within 24 hours for another request. A repeat has to be the same, byte for byte.";
    IDEMPOTENCY_CONFLICT: "idempotency_conflict", 409, INVALID, false, exit 2,
        "This Idempotency-Key was used within 24 hours for other events of a session. A repeat has to be the same, byte for byte.";
    BUNDLE_DAMAGED: "bundle_damaged", 400, INVALID, false, exit 2,
        "The bundle is cut, was changed, or says what cannot be true. Nothing of it was kept. Export it again, and compare its sum on the way.";
    BUNDLE_NEWER: "bundle_newer", 400, INVALID, false, exit 2,
        "The bundle was written by a later release, and holds what this one does not know. Nothing of it was kept. Use that release or a later one.";
    BUNDLE_SEALED: "bundle_sealed", 400, INVALID, false, exit 2,
        "The bundle is sealed to a recipient whose identity was not given. `everstate session import FILE --identity FILE` opens it.";
    EFFECT_MAY_HAVE_HAPPENED: "effect_may_have_happened", 409, INVALID, false, exit 6,
        "The first try of this request was lost after a tool with effects had started. It is not run again by itself: look at `address` first.";
    REPEAT_EXPIRED: "repeat_expired", 409, INVALID, false, exit 6,
        "This repeats a request whose answer is no longer kept, because it was made with `store: false`.";

    // Placement, policy, budget.
    NO_OFFER: "no_offer", 403, DENIED, false, exit 5,
        "No offer may or can serve this step. Nothing was sent. `everstate explain ADDRESS` lists every offer with its reason.";
    NO_CREDENTIALS: "no_credentials", 503, SERVER, false, exit 2,
        "No provider can be used, because no credentials were found.";
    BUDGET_REACHED: "budget_reached", 402, DENIED, false, exit 5,
        "What is left of the budget does not pay for one more step.";

    // What a model or a provider did.
    UPSTREAM_FAILED: "upstream_failed", 502, SERVER, false, exit 8,
        "The model's provider failed, after all the tries that were allowed.";
    UPSTREAM_BROKEN: "upstream_broken", 502, SERVER, false, exit 8,
        "The provider's answer was lost, was no answer, or ended without an end. What had been shown is kept as unfinished, never as an answer.";
    UPSTREAM_TIMEOUT: "upstream_timeout", 504, SERVER, false, exit 8,
        "The provider did not answer in time.";
    UPSTREAM_OVERLOADED: "upstream_overloaded", 503, SERVER, false, exit 8,
        "The provider said that it cannot serve now, after all the tries that were allowed.";
    UPSTREAM_AUTH: "upstream_auth", 502, SERVER, false, exit 4,
        "The provider refused our credentials.";
    UPSTREAM_INVALID_REQUEST: "upstream_invalid_request", 400, INVALID, false, exit 1,
        "The provider says that the request is wrong; it would be wrong elsewhere too, and was not tried there.";
    CONTENT_REFUSED: "content_refused", 400, INVALID, false, exit 1,
        "The provider will not answer this; it was not tried elsewhere.";
    CONTEXT_LENGTH_EXCEEDED: "context_length_exceeded", 400, INVALID, false, exit 1,
        "The conversation is longer than the model can take.";
    RATE_LIMIT_EXCEEDED: "rate_limit_exceeded", 429, BUSY, false, exit 8,
        "The providers that may serve this said `too many requests`, and waiting as long as allowed did not help.";
    INSUFFICIENT_QUOTA: "insufficient_quota", 429, BUSY, false, exit 5,
        "What was paid for or allotted is used up: at the provider, or the project's own budget. The message says which; \
         `everstate budget show` tells of the project's.";
    PROCESS_LOST: "process_lost", 500, SERVER, false, exit 8,
        "The process that waited for the model's answer was lost, too often to try again.";

    // Us.
    STORE_UNAVAILABLE: "store_unavailable", 503, SERVER, true, exit 8,
        "The store cannot take or give anything now. What was acknowledged before is safe.";
    SHUTTING_DOWN: "shutting_down", 503, SERVER, true, exit 8,
        "The server is closing. What runs in the background goes on after the restart.";
    INTERNAL: "server_error", 500, SERVER, false, exit 70,
        "Our mistake. The server's log says more.";

    // Configuration and start; these never travel over HTTP.
    CONFIG_INVALID: "config_invalid", 500, SERVER, false, exit 2,
        "The configuration has a mistake. It is read whole before any of it is used.";
    UNKNOWN_KEY: "unknown_key", 500, SERVER, false, exit 2,
        "everstate.toml has a key that does not exist. Unknown keys are errors, so that a slip of the pen is not silently ignored.";
    LITERAL_SECRET: "literal_secret", 500, SERVER, false, exit 2,
        "A secret stands in everstate.toml itself. Write `env:NAME` or `file:PATH`: configuration is copied and shown, secrets must not be.";
    CONFIG_NOT_FOUND: "config_not_found", 500, SERVER, false, exit 2,
        "The configuration file that was named cannot be read.";
    PORT_IN_USE: "port_in_use", 500, SERVER, false, exit 6,
        "Another process listens on this address. No other was chosen for you.";
    STORE_LOCKED: "store_locked", 500, SERVER, false, exit 6,
        "Another process has this store open. One store has one owner.";
    STORE_NEWER: "store_newer", 500, SERVER, false, exit 2,
        "The store was written by a later release. An older reader would show less than there is, so it shows nothing; the file was not touched.";
    COPY_REFUSED: "copy_refused", 409, INVALID, false, exit 6,
        "A store is copied into a new one: the target holds something else, another copy, or one that is finished.";
    COPY_DIFFERS: "copy_differs", 500, SERVER, false, exit 1,
        "After the last round the two stores were not the same, or the target does not verify. The source was not touched. Was it written to meanwhile? Run the copy again.";
    COPY_WAITS: "copy_waits", 409, INVALID, false, exit 7,
        "The target holds nearly all of the source, and the source is in use. Stop what uses it, and run the same command again: the last round carries what changed, and verifies.";
    STORE_FAILED: "store_failed", 500, SERVER, false, exit 1,
        "The store cannot be opened.";
    STORE_UNREACHABLE: "store_unreachable", 500, SERVER, false, exit 8,
        "The database cannot be reached or used, also after `server.store_wait_s` of waiting.";
    NODE_REFUSED: "node_refused", 500, SERVER, false, exit 6,
        "This node must not join the others: one of its name is there and lives, or it is of a release that cannot read what they write. Names are unique: `--node-name`.";
}

/// The row of a word.
pub fn find(word: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|it| it.word == word)
}
