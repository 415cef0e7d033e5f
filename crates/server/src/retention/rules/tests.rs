use super::*;

fn rules(text: &str, project: &str) -> Result<Rules, String> {
    let projects: Projects = toml::from_str(text).map_err(|err| err.message().to_owned())?;
    Ok(Rules::of(&projects, project))
}

#[test]
fn days_become_milliseconds() {
    let text = "[acme.retention]\nsessions = 30\nitems = 0.5\n[\"*\".retention]\nresponses = 7";
    let acme = rules(text, "acme").expect("it is well said");
    let day = 86_400_000;
    assert_eq!((acme.sessions, acme.items), (Some(30 * day), Some(day / 2)));
    assert_eq!((acme.responses, acme.shortest()), (None, Some(day / 2)));
    let other = rules(text, "other").expect("it is well said");
    assert_eq!(other, Rules { responses: Some(7 * day), ..Rules::default() });
    assert_eq!(Rules::default().shortest(), None);
}

#[test]
fn zero_is_for_those_that_say_it() {
    let text = "[acme.retention]\nitems = \"zero\"\n[other]\n[\"*\".retention]\nitems = \"zero\"";
    let zero = |project| rules(text, project).expect("it is well said").is_zero;
    assert_eq!((zero("acme"), zero("other"), zero("anybody")), (true, false, true));
    let projects: Projects = toml::from_str(text).expect("it is well said");
    let names = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(" ");
    let (veiled, unveiled) = veiled(&projects);
    assert_eq!((names(veiled), names(unveiled)), ("* acme".to_owned(), "other".to_owned()));
}

#[test]
fn what_is_no_time_is_refused() {
    for (text, says) in [
        ("sessions = 0", "more than 0"),
        ("sessions = -1", "more than 0"),
        ("items = nan", "more than 0"),
        ("responses = 40000", "no more than 36525"),
        ("frames = \"zero\"", "a number of days"),
        ("items = \"none\"", "days, or \"zero\""),
        ("turns = 7", "unknown field"),
    ] {
        let refused = rules(&format!("[acme.retention]\n{text}"), "acme");
        assert!(refused.as_ref().is_err_and(|it| it.contains(says)), "{text}: {refused:?}");
    }
}
