//! The example configuration is one that works, and secrets are never shown.

use std::path::Path;

use crate::house::House;

#[test]
fn the_example_is_accepted() {
    let house = House::empty();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/everstate.toml");
    let said = house.run(&["config", "show", "--config", example.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.err);
    for part in ["providers.openai.key", "env:OPENAI_API_KEY", "limits.steps_max", "default"] {
        assert!(said.out.contains(part), "`{part}` is not in\n{}", said.out);
    }
    assert!(!said.out.contains("es_a_key"), "the admin key is only said to be there");
}

#[test]
fn a_slip_of_the_pen_is_told_with_its_line() {
    let house = House::empty();
    std::fs::write(house.dir.path().join("everstate.toml"), "[limits]\nsteps_maks = 3\n").unwrap();
    let said = house.run(&["config", "show"]);
    assert_eq!(said.code, 2);
    for part in ["error[unknown_key]", "line 2", "did you mean `steps_max`?", "why:"] {
        assert!(said.err.contains(part), "`{part}` is not in\n{}", said.err);
    }
    assert_eq!(said.out, "", "what was asked for is not there");
}
