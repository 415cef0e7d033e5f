//! Commands one after the other, as a person types them.

use std::net::TcpListener;

use crate::house::{CONFIG, House, KEY};

#[test]
fn a_task_is_run_shown_explained_forked_and_verified() {
    let mut house = House::new(CONFIG);
    let run = house.run(&["run", "say something", "--model", "slow"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("done") && run.out.contains("one two three"), "{}", run.out);

    // Aliases that are not listed, ids by their beginning, `@`.
    let list = house.run(&["sessions", "ls"]);
    assert!(list.out.lines().nth(1).unwrap().ends_with("  slow"), "{}", list.out);
    let short = list.out.lines().nth(1).and_then(|it| it.split_whitespace().next()).unwrap();
    for which in [short, "@"] {
        let shown = house.run(&["session", "show", which]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        assert!(
            shown.out.contains("placed") && shown.out.contains("next: everstate"),
            "{}",
            shown.out
        );
    }
    let explained = house.run(&["explain", "@/1.1"]);
    assert!(explained.out.contains("slow/global/slow"), "{}{}", explained.out, explained.err);
    let forked = house.run(&["session", "fork", short]);
    assert!(forked.out.contains("forked"), "{}{}", forked.out, forked.err);

    // Nobody reads a store that a server has open; its own answer is the same.
    let locked = house.run(&["audit", "verify", "--store", "sqlite:state.db"]);
    assert_eq!(locked.code, 6, "{}", locked.err);
    let online = house.run(&["audit", "verify"]);
    house.kill();
    let offline = house.run(&["audit", "verify", "--store", "sqlite:state.db"]);
    assert_eq!((online.code, offline.code), (0, 0), "{}{}", online.err, offline.err);
    assert_eq!(online.out, offline.out);
    let offline = house.run(&["explain", &format!("{short}/1.1"), "--store", "sqlite:state.db"]);
    assert_eq!(explained.out, offline.out, "{}", offline.err);

    let alone = house.run(&["session", "show"]);
    assert_eq!(alone.code, 8);
    for part in ["error[unreachable]", "why:", "try: everstate dev"] {
        assert!(alone.err.contains(part), "`{part}` is not in\n{}", alone.err);
    }
}

#[test]
fn an_approval_waits_is_listed_and_answered_once() {
    let house = House::new(CONFIG);
    let run = house.run(&["run", "refund it", "--model", "slow", "--tools", "refund"]);
    assert_eq!(run.code, 7, "{}{}", run.out, run.err);
    assert!(run.out.contains("APPROVAL  refund(charge=ch_1)"), "{}", run.out);
    let list = house.run(&["approval", "list"]);
    let id = list.out.lines().nth(1).and_then(|it| it.split_whitespace().next()).unwrap();
    let denied = house.run(&["approval", "deny", id, "--reason", "not ours"]);
    assert_eq!(denied.code, 0, "{}", denied.err);
    let again = house.run(&["approval", "approve", id]);
    assert_eq!(again.code, 6, "{}{}", again.out, again.err);
    let shown = house.run(&["session", "show"]);
    assert!(shown.out.contains("denied    by admin, \"not ours\""), "{}", shown.out);
}

#[test]
fn what_is_approved_after_the_turn_starts_with_the_next() {
    let house = House::new(CONFIG);
    house.run(&["run", "refund it", "--model", "slow", "--tools", "refund"]);
    let list = house.run(&["approval", "list"]);
    let id = list.out.lines().nth(1).and_then(|it| it.split_whitespace().next()).unwrap();
    let approved = house.run(&["approval", "approve", id]);
    assert_eq!(approved.code, 0, "{}", approved.err);
    for part in ["starts with the session's next turn", "previous_response_id=resp_"] {
        assert!(approved.out.contains(part), "`{part}` is not in\n{}", approved.out);
    }
    // What it says to type does it.
    let next = approved.out.lines().find_map(|it| it.strip_prefix("next: everstate ")).unwrap();
    let words: Vec<&str> = next.split(' ').take(3).chain(["Go on."]).collect();
    let sent = house.run(&words);
    assert!(sent.out.contains("turn 2 begun"), "{}{}", sent.out, sent.err);
    house.run(&["session", "watch", "@", "--until-idle"]);
    let shown = house.run(&["session", "show"]);
    assert!(shown.out.contains("refund(charge=ch_1)  sent"), "{}", shown.out);
}

#[test]
fn what_may_have_happened_is_listed_and_settled() {
    // It takes the request, and says nothing.
    let bank = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[[tools]]\nname = \"mail\"\nmethod = \"POST\"\nurl = \"http://{}/mail\"\nallow_private = true\n",
        bank.local_addr().unwrap()
    );
    let mut house = House::new(&config);
    assert_eq!(house.run(&["effect", "list"]).out, "nothing is in doubt\n");
    let begun = house.run(&["run", "call mail {}", "--tools", "mail", "--detach"]);
    assert_eq!(begun.code, 0, "{}", begun.err);
    let _held = bank.accept().unwrap();
    house.kill();
    house.start();
    house.run(&["session", "watch", "@", "--until-idle"]);

    let shown = house.run(&["session", "show"]);
    let settle = shown.out.split("settle    everstate ").nth(1).expect("it is said aloud");
    let settle: Vec<&str> = settle.split(' ').take(3).collect();
    let list = house.run(&["effect", "list"]);
    assert!(list.out.contains("/1/c1  unknown    mail()"), "{}", list.out);

    let undecided = house.run(&settle);
    assert_eq!(undecided.code, 2, "{}", undecided.out);
    let both = [&settle[..], &["--ok", "--failed"]].concat();
    assert_eq!(house.run(&both).code, 2);
    let settled = house.run(&[&settle[..], &["--ok", "--note", "it was sent"]].concat());
    assert!(settled.out.contains("it happened"), "{}{}", settled.out, settled.err);
    let again = house.run(&[&settle[..], &["--failed"]].concat());
    assert_eq!(again.code, 3, "{}", again.out);
    assert_eq!(house.run(&["effect", "list"]).out, "nothing is in doubt\n");
    let shown = house.run(&["session", "show"]);
    assert!(shown.out.contains("learned   mail"), "{}", shown.out);
}

#[test]
fn keys_and_colours() {
    let house = House::new(CONFIG);
    let mut stranger = house.command(&["session", "list"]);
    let out = stranger.env_remove("EVERSTATE_ADMIN_KEY").output().unwrap();
    assert_eq!(out.status.code(), Some(4));
    let mut wrong = house.command(&["session", "list"]);
    let out = wrong.env("EVERSTATE_KEY", "es_another").output().unwrap();
    assert_eq!(out.status.code(), Some(4));
    let mut right = house.command(&["session", "list"]);
    let out = right.env("EVERSTATE_KEY", KEY).output().unwrap();
    assert_eq!(out.status.code(), Some(0));

    assert_eq!(house.run(&["run", "hello"]).code, 0);
    let plain = house.run(&["session", "show"]);
    assert!(!plain.out.contains('\x1b'), "a pipe gets no colours");
    let colours = house.run(&["session", "show", "--color", "always"]);
    assert!(colours.out.contains("\x1b["), "unless they are asked for");
}

#[test]
fn dev_keeps_its_key_and_its_state() {
    let house = House::empty();
    let start = || {
        let mut command = house.command(&["--json", "dev", "--port", "0"]);
        command.env_remove("EVERSTATE_ADMIN_KEY").env_remove("EVERSTATE_URL");
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert!(line.contains("url"), "{line}");
        child
    };
    // Key and address are found in the directory.
    let found = |words: &[&str]| {
        let mut command = house.command(words);
        command.env_remove("EVERSTATE_ADMIN_KEY").env_remove("EVERSTATE_URL").output().unwrap()
    };
    let mut child = start();
    assert_eq!(found(&["run", "hello"]).status.code(), Some(0));
    let key = house.dir.path().join(".everstate/key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start();
    let list = found(&["session", "list"]);
    assert!(String::from_utf8(list.stdout).unwrap().contains("ses_"), "durable by default");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_doctor_looks_into_the_files_where_no_server_runs() {
    let mut house = House::new(CONFIG);
    let alone = |house: &House| {
        let out = house.command(&["doctor"]).env_remove("EVERSTATE_URL").output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let here = house.dir.path().join(".everstate");
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("url"), "http://127.0.0.1:9").unwrap();
    let toml = house.dir.path().join("everstate.toml");
    std::fs::write(&toml, format!("[server]\nstore = \"sqlite:state.db\"\n{CONFIG}")).unwrap();

    // Its server has it open, somewhere else.
    let (code, said) = alone(&house);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warn  store      ") && said.contains("skip  server     none"), "{said}");
    let strict = house.command(&["doctor", "--strict"]).env_remove("EVERSTATE_URL").output();
    assert_eq!(strict.unwrap().status.code(), Some(1));

    house.kill();
    let (code, said) = alone(&house);
    assert_eq!(code, Some(0), "{said}");
    for part in
        ["skip  server     none runs at", "ok    store      sqlite:state.db, schema", "ok    slow"]
    {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    // One that was named has to be there.
    assert_eq!(house.run(&["doctor"]).code, 1);

    std::fs::write(&toml, "[limits]\nsteps_maks = 3\n").unwrap();
    let (code, said) = alone(&house);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAIL  config") && said.contains("skip  store"), "{said}");
}

#[test]
fn a_key_is_made_turned_and_revoked() {
    let house = House::new(CONFIG);
    assert_eq!(house.run(&["project", "create", "acme"]).code, 0);
    assert_eq!(house.run(&["project", "list"]).out, "acme\ndefault\n");
    let made = house.run(&["key", "create", "ci", "--project", "acme", "--role", "reader"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let id = made.out.split_whitespace().next().unwrap();
    let text = |said: &str| {
        let text = said.split("key: ").nth(1).and_then(|it| it.split_whitespace().next());
        text.unwrap_or_else(|| panic!("no key: {said}")).to_owned()
    };
    let ask = |key: &str, words: &[&str]| {
        let out = house.command(words).env("EVERSTATE_KEY", key).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let first = text(&made.out);
    assert_eq!(ask(&first, &["session", "list"]).0, 0);
    let (code, err) = ask(&first, &["run", "hello"]);
    assert_eq!(code, 4, "{err}");
    for part in ["error[missing_scope]", "`responses:write`", "try: everstate key create"] {
        assert!(err.contains(part), "`{part}` is not in\n{err}");
    }
    let turned = house.run(&["key", "rotate", id, "--grace", "0s"]);
    assert_eq!(turned.code, 0, "{}", turned.err);
    assert_eq!(ask(&first, &["session", "list"]).0, 4);
    assert_eq!(ask(&text(&turned.out), &["session", "list"]).0, 0);
    assert!(house.run(&["key", "list"]).out.contains("  acme     ci    reader  active"));
    let unasked = house.run(&["key", "revoke", id]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{}", unasked.err);
    assert_eq!(house.run(&["key", "revoke", id, "--yes"]).code, 0);
    assert_eq!(ask(&text(&turned.out), &["session", "list"]).0, 4);
}
