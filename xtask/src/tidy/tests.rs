//! Every rule bites: a small tree that breaks it, and the message that comes of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Tree, check, scan};

/// A repository in a directory of its own, removed with the value.
struct Fixture(PathBuf);

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Fixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("everstate-tidy-{}-{n}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a file lies in a directory"))
                .expect("the temporary directory can be written");
            std::fs::write(path, text).expect("the temporary directory can be written");
        }
        Fixture(root)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What tidy says about these files, one line per problem.
#[track_caller]
fn says(files: &[(&str, &str)], wanted: &[&str]) {
    let fixture = Fixture::new(files);
    let tree = Tree::load(Path::new(&fixture.0)).expect("the fixture can be read");
    let problems: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
    for (problem, wanted) in problems.iter().zip(wanted) {
        let all = wanted.split(" .. ").all(|it| problem.contains(it));
        assert!(all, "`{problem}` does not say `{wanted}`");
    }
}

/// A manifest with these lines of dependencies.
fn manifest(dependencies: &str) -> String {
    format!("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n\n{dependencies}\n")
}

#[test]
fn a_clean_tree_is_clean() {
    says(
        &[
            ("crates/kernel/Cargo.toml", &manifest("[dependencies]\nserde.workspace = true")),
            (
                "crates/kernel/src/lib.rs",
                "//! What is true.\n\nfn decide() {} // no tokio in comments\n",
            ),
            ("README.md", "[licence](LICENSE) and [elsewhere](https://example.org)\n"),
            ("LICENSE", ""),
            ("target/debug/rubbish.rs", "todo!()"),
        ],
        &[],
    );
}

#[test]
fn arrows() {
    let kernel = manifest("[dependencies]\neverstate-store.workspace = true");
    says(
        &[("crates/kernel/Cargo.toml", &kernel)],
        &["crates/kernel/Cargo.toml:8: .. may not import `store`"],
    );

    let neighbours = manifest("[dependencies.everstate-tools]\nworkspace = true");
    says(
        &[("crates/store/Cargo.toml", &neighbours)],
        &["Cargo.toml:7: .. `store` may not import `tools`"],
    );

    let hidden = manifest(
        "[dependencies]\ninner = { path = \"../server\", package = \"everstate-server\" }",
    );
    says(&[("crates/tools/Cargo.toml", &hidden)], &["`tools` may not import `server`"]);

    let by_target = manifest("[target.'cfg(unix)'.dependencies]\neverstate-cli.workspace = true");
    says(&[("crates/server/Cargo.toml", &by_target)], &["`server` may not import `cli`"]);

    let in_tests = manifest("[dev-dependencies]\neverstate-store.workspace = true");
    says(&[("crates/tools/Cargo.toml", &in_tests)], &[]);
}

#[test]
fn outside_crates_stay_at_home() {
    let time = manifest("[dependencies]\njiff.workspace = true");
    says(&[("crates/kernel/Cargo.toml", &time)], &["`kernel` is pure"]);
    let sql = manifest("[dependencies]\nrusqlite.workspace = true");
    says(&[("crates/server/Cargo.toml", &sql)], &["`rusqlite` belongs to store"]);
    says(&[("crates/store/Cargo.toml", &sql)], &[]);
    says(&[("xtask/Cargo.toml", &sql)], &["xtask depends on `rusqlite`"]);
    says(&[("tests/postgres/Cargo.toml", &sql)], &["depends on `rusqlite`"]);
}

#[test]
fn rooms_are_known_and_linted() {
    says(&[("crates/util/Cargo.toml", &manifest(""))], &["`util` is no room"]);
    says(&[("crates/store/Cargo.toml", "[package]\n")], &["add `[lints]`"]);
}

#[test]
fn forbidden_in_the_lock() {
    for name in ["sqlx", "rsa", "openssl-sys", "native-tls"] {
        let lock = format!("version = 4\n\n[[package]]\nname = \"{name}\"\n");
        says(&[("Cargo.lock", &lock)], &[&format!("Cargo.lock:4: `{name}` is in the graph")]);
    }
}

#[test]
fn pure_rooms_are_pure() {
    for (code, wanted) in [
        ("async fn wait() {}", "`async` in `kernel`"),
        ("use tokio::sync::Mutex;", "`tokio`"),
        ("let now = std::time::UNIX_EPOCH;", "`std::time`"),
        ("use std::{fmt,\n    time::Duration};", "`std::time`"),
        ("std::net::lookup();", "`std::net`"),
        ("std::fs::read(it);", "`std::fs`"),
        ("fn at() -> SystemTime {}", "`SystemTime`"),
        ("rand::random()", "`rand`"),
        ("let map = HashMap::new();", "`HashMap`"),
        ("println!(\"x\");", "`println!`"),
    ] {
        let text = format!("//! It is pure.\n{code}\n");
        says(&[("crates/kernel/src/lib.rs", &text)], &[wanted]);
        says(&[("crates/runtime/src/lib.rs", &text)], &[]);
        says(&[("crates/kernel/tests/it/main.rs", &text)], &[]);
        says(&[("crates/kernel/examples/speed.rs", &text)], &[]);
    }
    let spoken = "//! No tokio.\n/* async */ fn brand() -> &'static str { \"std::fs rand\" } // SystemTime\n";
    says(&[("crates/dialects/src/lib.rs", spoken)], &[]);
}

#[test]
fn files_are_small_and_have_a_header() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(1000));
    says(&[("crates/store/src/long.rs", &long)], &["long.rs:1001: 1001 lines"]);
    says(&[("crates/store/tests/it/long.rs", &long)], &[]);
    says(&[("crates/store/src/bare.rs", "fn f() {}\n")], &["bare.rs:1: no header"]);
    says(&[("crates/store/src/a/tests.rs", "fn f() {}\n")], &[]);
    says(&[("crates/store/src/main.rs", "#![allow(x)]\n\n//! Fine.\n")], &[]);
    says(&[("crates/store/src/x/mod.rs", "//! Fine.\n")], &["no mod.rs"]);
}

#[test]
fn nothing_is_left_unfinished() {
    let todo = concat!("to", "do!(");
    let text = format!("//! A file.\nfn f() {{ {todo}) }}\n");
    says(&[("crates/store/src/lib.rs", &text)], &["lib.rs:2: .. finish it"]);
    let text = format!("//! A file.\n// {}: later\n", concat!("FIX", "ME"));
    says(&[("crates/store/src/lib.rs", &text)], &["lib.rs:2: .. open an issue"]);
    let ignored = "//! A file.\n#[ignore]\n#[test]\nfn f() {}\n";
    says(&[("crates/store/tests/it/main.rs", ignored)], &["main.rs:2: an ignored test"]);
    let inline = "//! A file.\n#[cfg(test)]\nmod tests {\n}\n";
    says(&[("crates/store/src/lib.rs", inline)], &["lib.rs:3: tests have their own file"]);
}

#[test]
fn tests_do_not_sleep() {
    let rust = "//! A test.\nfn f() { std::thread::sleep(ms(5)); }\n";
    says(&[("crates/store/tests/it/main.rs", rust)], &["main.rs:2: a test that sleeps"]);
    says(&[("crates/store/src/inner/tests.rs", rust)], &["tests.rs:2: a test that sleeps"]);
    says(&[("crates/store/src/lib.rs", rust)], &[]);
    says(
        &[("tests/sdk/test_x.py", "time.sleep(1)  # a while\n")],
        &["test_x.py:1: a test that sleeps"],
    );
}

#[test]
fn a_rule_is_lifted_only_with_a_reason() {
    let with =
        "//! A test.\n// tidy allows sleep: the child cannot call back\nfn f() { sleep(5); }\n";
    says(&[("crates/store/tests/it/main.rs", with)], &[]);
    let without = "//! A test.\n// tidy allows sleep\nfn f() { sleep(5); }\n";
    says(
        &[("crates/store/tests/it/main.rs", without)],
        &["main.rs:2: .. needs a reason", "main.rs:3: a test that sleeps"],
    );
    let other =
        "//! A test.\n// tidy allows ignore: it does not matter here\nfn f() { sleep(5); }\n";
    says(&[("crates/store/tests/it/main.rs", other)], &["main.rs:3: a test that sleeps"]);
}

#[test]
fn links_lead_somewhere() {
    says(
        &[("docs/a.md", "see [b](b.md#part) and\n[c](../c.md)\n"), ("docs/b.md", "")],
        &["docs/a.md:2: the link to `../c.md`"],
    );
    says(&[("docs/a.md", "```\n[x](nowhere)\n```\n")], &[]);
}

#[test]
fn only_code_is_searched() {
    for (source, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a\"b") + g"#, r#"f(      ) + g"#),
        (r##"f(r#"a"b"#) + g"##, r#"f(        ) + g"#),
        ("let c = '\"'; d", "let c =    ; d"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        (r"let c = '\''; d", "let c =     ; d"),
        ("let r#type = 1;", "let r#type = 1;"),
    ] {
        assert_eq!(scan::code(source), code, "{source}");
    }
    assert!(scan::has_word("use rand::x", "rand") && !scan::has_word("brand(operand)", "rand"));
}
