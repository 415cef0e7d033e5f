//! What is counted, for Prometheus. Labels come from short fixed lists: never from what a client sends.

use std::sync::OnceLock;
use std::time::Duration;

use everstate_runtime::cluster::NodeFacts;
use everstate_runtime::ledger::Standing;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the process's recorder, once.
pub(crate) fn handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder stays; then ours has nothing to tell.
        metrics::set_global_recorder(recorder).ok();
        metrics::describe_counter!("everstate_http_requests_total", "Requests by door and status.");
        metrics::describe_histogram!(
            "everstate_http_seconds",
            metrics::Unit::Seconds,
            "Time until an answer began, by door."
        );
        metrics::describe_gauge!("everstate_sessions_live", "Sessions with something under way.");
        metrics::describe_gauge!(
            "everstate_budget_micros",
            "Money of projects that are named in the configuration, in millionths of a US dollar."
        );
        metrics::describe_gauge!(
            "everstate_nodes",
            "Nodes of the cluster, by state, as seen here."
        );
        metrics::describe_gauge!(
            "everstate_buckets_owned",
            "Buckets assigned to this node, of 1024."
        );
        metrics::describe_gauge!(
            "everstate_buckets_moving",
            "Buckets that this node has yet to take over or to let go of."
        );
        metrics::describe_gauge!(
            "everstate_sessions_ready",
            "Sessions this node has yet to adopt."
        );
        metrics::describe_gauge!(
            "everstate_posts_waiting",
            "Inputs posted to sessions of other nodes that have no outcome yet."
        );
        metrics::describe_counter!(
            "everstate_takeovers_total",
            "Sessions this node has taken over from another owner."
        );
        metrics::describe_gauge!(
            "everstate_lease_age_seconds",
            metrics::Unit::Seconds,
            "How long ago this node last renewed its lease."
        );
        metrics::describe_gauge!("everstate_lease_held", "1 while this node holds its lease.");
        metrics::describe_gauge!(
            "everstate_assignment_lag",
            "Revisions of the assignment this node is behind."
        );
        metrics::describe_counter!(
            "everstate_retention_deleted_total",
            "Deleted or erased because its time had come, by what it was."
        );
        metrics::describe_counter!(
            "everstate_retention_failed_total",
            "What was due and could not be deleted at once; it is tried again."
        );
        metrics::describe_counter!("everstate_turns_total", "Turns begun, by door.");
        metrics::describe_counter!("everstate_repeats_total", "Requests answered as repeats.");
        metrics::describe_counter!("everstate_spans_total", "Spans of traces, sent or lost.");
        handle
    })
}

/// How a project's money stands. Only projects that are named in the configuration have a label of their own.
pub(crate) fn budget(standing: &Standing) {
    let Standing { project, limit, slices, here } = standing;
    let gauge = |what: &'static str, n: u64| {
        metrics::gauge!("everstate_budget_micros", "project" => project.clone(), "what" => what)
            .set(n as f64);
    };
    gauge("limit", limit.amount);
    gauge("spent", slices.spent().saturating_add(here.unsettled));
    gauge("leased", slices.leased().saturating_sub(here.unsettled));
    gauge("free", slices.free(limit.amount));
    gauge("reserved_here", here.reserved);
}

pub(crate) fn answered(path: &str, status: u16, took: Duration) {
    let door = door(path);
    metrics::counter!("everstate_http_requests_total", "door" => door, "status" => status.to_string())
        .increment(1);
    metrics::histogram!("everstate_http_seconds", "door" => door).record(took.as_secs_f64());
}

pub(crate) fn retained(what: &'static str, n: u64) {
    metrics::counter!("everstate_retention_deleted_total", "what" => what).increment(n);
}

pub(crate) fn retention_failed() {
    metrics::counter!("everstate_retention_failed_total").increment(1);
}

pub(crate) fn turn_begun(door: &'static str) {
    metrics::counter!("everstate_turns_total", "door" => door).increment(1);
}

pub(crate) fn repeated() {
    metrics::counter!("everstate_repeats_total").increment(1);
}

/// Spans that were sent, or could not be.
pub(crate) fn spans(n: usize, sent: bool) {
    let outcome = if sent { "sent" } else { "lost" };
    metrics::counter!("everstate_spans_total", "outcome" => outcome).increment(n as u64);
}

/// The cluster, as this node sees it.
pub(crate) fn nodes(nodes: &[NodeFacts]) {
    for (state, is) in [("alive", true), ("lost", false)] {
        let n = nodes.iter().filter(|it| it.is_alive == is).count();
        metrics::gauge!("everstate_nodes", "state" => state).set(n as f64);
    }
    let Some(own) = nodes.iter().find(|it| it.is_self) else { return };
    metrics::gauge!("everstate_buckets_owned").set(own.n_buckets as f64);
    metrics::gauge!("everstate_buckets_moving").set(own.n_moving as f64);
    metrics::gauge!("everstate_sessions_ready").set(own.n_ready as f64);
    metrics::gauge!("everstate_posts_waiting").set(own.n_posted as f64);
    metrics::counter!("everstate_takeovers_total").absolute(own.n_taken_over);
    metrics::gauge!("everstate_lease_age_seconds").set(own.beat_age_ms as f64 / 1_000.0);
    metrics::gauge!("everstate_lease_held").set(if own.is_alive { 1.0 } else { 0.0 });
    metrics::gauge!("everstate_assignment_lag").set(own.lag as f64);
}

pub(crate) fn live(n: usize) {
    metrics::gauge!("everstate_sessions_live").set(n as f64);
}

fn door(path: &str) -> &'static str {
    const DOORS: [(&str, &str); 6] = [
        ("/v1/responses", "responses"),
        ("/v1/models", "models"),
        ("/v1/", "other_v1"),
        ("/everstate/v1/", "everstate"),
        ("/internal/", "internal"),
        ("/", "other"),
    ];
    DOORS.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("other", |(_, door)| door)
}
