use super::*;

#[test]
fn each_setup_is_told_for_what_it_is() {
    for (commit, standbys, says) in [
        ("on", "", "no synchronous standby"),
        ("on", "ANY 1 (a, b)", "ANY 1 (a, b)): it survives a fail-over"),
        ("remote_apply", "*", "survives a fail-over"),
        ("remote_write", "*", "unless the operating systems"),
        ("local", "*", "may lose it"),
        ("local", "", "no synchronous standby"),
        ("off", "*", "loses what was acknowledged"),
    ] {
        let said = promised(commit, standbys);
        assert!(said.contains(says), "{commit}, {standbys}: {said}");
    }
}
