use everstate_kernel::event::Append;

use super::*;

#[test]
fn an_events_own_time_does_not_hide_its_rows() {
    let event = Event::RetryScheduled { turn: 1, step: 2, at: 5_000 };
    let append = Append { seq: 7, at: 1_000, events: vec![event] };
    let told = render_append(SessionId(7), &append, &mut Place::default());
    assert_eq!(
        told,
        [json!({
            "seq": 7,
            "at": 1_000,
            "kind": "retry_scheduled",
            "address": format!("{}/1.2", SessionId(7)),
            "turn": 1,
            "step": 2,
            "again_at": 5_000,
        })]
    );
}
