//! A session taken out of one server and brought into another, as a person types it.

use std::os::unix::fs::PermissionsExt;

use crate::house::{CONFIG, House};

fn last_word<'a>(text: &'a str, before: &str) -> &'a str {
    let line = text.lines().find(|it| it.starts_with(before)).expect("the line is there");
    line.rsplit(' ').next().unwrap()
}

#[test]
fn a_session_is_carried_sealed_and_its_task_goes_on() {
    let (here, mut there) = (House::new(CONFIG), House::new(CONFIG));
    assert_eq!(here.run(&["run", "say something", "--model", "slow"]).code, 0);
    let asked = here.run(&["run", "refund it", "--model", "slow", "--tools", "refund"]);
    assert_eq!(asked.code, 7, "{}{}", asked.out, asked.err);

    let keygen = there.run(&["session", "keygen", "-o", "ours.identity"]);
    assert_eq!(keygen.code, 0, "{}", keygen.err);
    let recipient = keygen.out.lines().next().unwrap();
    let identity = there.dir.path().join("ours.identity");
    let mode = std::fs::metadata(&identity).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = there.run(&["session", "keygen", "-o", "ours.identity"]);
    assert_eq!(again.code, 1, "it is never written over: {}", again.out);

    let neither = here.run(&["session", "export", "@"]);
    assert_eq!(neither.code, 2, "{}", neither.err);
    let file = there.dir.path().join("task.everstate");
    let path = file.to_str().unwrap();
    let exported = here.run(&["session", "export", "@", "--to", recipient, "-o", path]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let head = last_word(&exported.out, "head ").to_owned();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!file.with_extension("everstate.half").exists());

    let blind = there.run(&["session", "import", path]);
    assert_eq!(blind.code, 2);
    assert!(blind.err.contains("bundle_sealed") && blind.err.contains(recipient), "{}", blind.err);
    let words = ["session", "import", path, "--identity", "ours.identity", "--head"];
    let other = there.run(&[&words[..], &[&"0".repeat(64)]].concat());
    assert_eq!(other.code, 2, "{}{}", other.out, other.err);
    assert_eq!(there.run(&["session", "list"]).out.matches("ses_").count(), 0, "nothing stays");

    let imported = there.run(&[&words[..], &[&head]].concat());
    assert_eq!(imported.code, 0, "{}", imported.err);
    for part in ["the approval is not inherited", "imported; nothing of it was started   idle"] {
        assert!(imported.out.contains(part), "`{part}` is not in\n{}", imported.out);
    }
    let shown = there.run(&["session", "show"]);
    assert!(shown.out.contains("imported  from ses_"), "{}", shown.out);
    assert_eq!(there.run(&["approval", "list"]).out.matches("apr_").count(), 0);

    let sent = there.run(&["session", "send", "@", "never mind, say it"]);
    assert_eq!(sent.code, 0, "{}{}", sent.out, sent.err);
    there.run(&["session", "watch", "@", "--until-idle"]);
    let shown = there.run(&["session", "show"]);
    assert!(shown.out.contains("one two three"), "{}", shown.out);

    let online = there.run(&["audit", "verify"]);
    there.kill();
    let offline = there.run(&["audit", "verify", "--store", "sqlite:state.db"]);
    assert_eq!((online.code, offline.code), (0, 0), "{}{}", online.err, offline.err);
    assert_eq!(online.out, offline.out);
    assert!(online.out.contains("1 log from before a session was imported"), "{}", online.out);
}

#[test]
fn what_is_not_sealed_is_said_loudly_and_what_is_cut_is_refused() {
    let house = House::new(CONFIG);
    assert_eq!(house.run(&["run", "say something", "--model", "slow"]).code, 0);
    let exported = house.run(&["session", "export", "--plain", "-o", "plain.everstate"]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    assert!(exported.err.contains("PLAIN") && exported.out.contains("PLAIN"), "{}", exported.err);
    let file = house.dir.path().join("plain.everstate");
    let bytes = std::fs::read(&file).unwrap();
    let piped = house.command(&["session", "export", "@", "--plain", "-o", "-"]).output().unwrap();
    assert!(piped.stdout.starts_with(b"everstate bundle 1\n"));

    std::fs::write(&file, &bytes[..bytes.len() - 40]).unwrap();
    let cut = house.run(&["session", "import", "plain.everstate"]);
    assert_eq!(cut.code, 2);
    assert!(cut.err.contains("error[bundle_damaged]: the bundle is cut"), "{}", cut.err);
    std::fs::write(&file, [&bytes[..], b"!"].concat()).unwrap();
    assert_eq!(house.run(&["session", "import", "plain.everstate"]).code, 2);
    std::fs::write(&file, &bytes).unwrap();
    let whole = house.run(&["--json", "session", "import", "plain.everstate"]);
    assert_eq!(whole.code, 0, "{}", whole.out);
    let told: serde_json::Value = serde_json::from_str(&whole.out).unwrap();
    assert!(told["imported"]["origin"]["session"].as_str().unwrap().starts_with("ses_"));
    assert_eq!(house.run(&["session", "import", "nowhere"]).code, 1);

    // A server has a recipient of its own, and opens what is sealed to it.
    let own = house.run(&["session", "recipient"]);
    let to = ["session", "export", "@", "--to", own.out.trim(), "-o", "direct.everstate"];
    assert_eq!(house.run(&to).code, 0);
    let direct = house.run(&["session", "import", "direct.everstate"]);
    assert_eq!(direct.code, 0, "{}", direct.err);

    let identity = house.dir.path().join("everstate.identity");
    assert_eq!(house.run(&["session", "keygen"]).code, 0);
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open =
        house.run(&["session", "import", "plain.everstate", "--identity", "everstate.identity"]);
    assert!(open.err.contains("can be read by others"), "{}", open.err);
}
