//! Every statement of this file, read from its source, is taken apart and held against the shapes: what a statement
//! does that is not listed here, no system beneath has to know.

use std::collections::BTreeMap;

const SOURCE: &str = include_str!("../statements.rs");
const SCHEMAS: [&str; 3] = [
    include_str!("../schema/state_0001.sql"),
    include_str!("../schema/state_under_way.sql"),
    include_str!("../schema/keys_0001.sql"),
];

/// Constants that are more than one shape: the server's word about itself, and its housekeeping.
const ABOUT_THE_SERVER: &[&str] = &[
    "SELECT current_setting($1, TRUE)",
    "SELECT pg_database_size(current_database())",
    "SELECT pg_is_in_recovery()",
    "SELECT pg_total_relation_size('everstate_keys.data_key')",
    "VACUUM (FULL) everstate_keys.data_key",
];
/// What is read as a whole: small tables of the house.
const READ_WHOLE: &[&str] =
    &["everstate.addition", "everstate.doomed", "everstate.migration", "everstate_keys.migration"];
/// All that a statement may call. None of them is peculiar to one server.
const FUNCTIONS: &[&str] = &["unnest", "coalesce", "clock_timestamp", "extract", "length", "any"];

/// Every string literal in the file, as it is sent.
fn statements() -> Vec<String> {
    let code = SOURCE.lines().filter(|it| !it.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let literals = code.split('"').skip(1).step_by(2);
    let found: Vec<String> = literals
        .map(|it| it.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(found.len() > 50, "only {} statements were found", found.len());
    found
}

/// The leading columns of each table's keys and indexes.
fn keys() -> BTreeMap<String, Vec<Vec<String>>> {
    let mut keys: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let columns = |text: &str| -> Vec<String> {
        let inside = text.split(['(', ')']).nth(1).expect("a key has columns");
        inside.split(',').map(|it| it.trim().to_owned()).collect()
    };
    for schema in SCHEMAS {
        let lines = schema.lines().filter(|it| !it.starts_with("--"));
        let text: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        for text in text.join(" ").split(';').map(str::trim) {
            if let Some(rest) = text.strip_prefix("CREATE TABLE ") {
                let table = rest.split(' ').next().expect("it has a name").to_owned();
                let (_, key) = rest.split_once("PRIMARY KEY").expect("every table has a key");
                keys.entry(table).or_default().push(columns(key));
            } else if let Some((_, rest)) = text.split_once(" ON ") {
                let table = rest.split(' ').next().expect("it has a name").to_owned();
                keys.entry(table).or_default().push(columns(rest));
            }
        }
    }
    keys
}

/// A statement in words and signs.
fn words(statement: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    for letter in statement.chars() {
        if letter.is_alphanumeric() || "_.$:[]".contains(letter) {
            words.last_mut().expect("there is one").push(letter);
        } else {
            words.push(String::new());
            if !letter.is_whitespace() {
                words.push(letter.to_string());
                words.push(String::new());
            }
        }
    }
    words.retain(|it| !it.is_empty());
    words
}

/// The text between two words, at the outermost level of brackets.
fn between(words: &[String], from: &str, to: &[&str]) -> Option<Vec<String>> {
    let starts: Vec<&str> = from.split(' ').collect();
    let mut depth = 0;
    let mut at = None;
    for n in 0..words.len() {
        match words[n].as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        let here = |it: &[&str]| {
            it.iter().enumerate().all(|(k, it)| words.get(n + k).is_some_and(|word| word == it))
        };
        match at {
            None if depth == 0 && here(&starts) => at = Some(n + starts.len()),
            Some(start) if depth == 0 && to.iter().any(|it| words[n] == *it) => {
                return Some(words[start..n].to_vec());
            }
            _ => {}
        }
    }
    at.map(|start| words[start..].to_vec())
}

const AFTER_WHERE: &[&str] = &["ORDER", "LIMIT", "FOR", "ON", "RETURNING"];

/// Does `WHERE` begin with all of a prefix of one of the table's keys?
fn goes_by_key(
    table: &str,
    condition: &[String],
    keys: &BTreeMap<String, Vec<Vec<String>>>,
) -> bool {
    let column = |it: &str| it.rsplit('.').next().unwrap_or(it).to_owned();
    let compared: Vec<String> = condition
        .windows(2)
        .filter(|it| ["=", "<", ">", "IS", "IN"].contains(&it[1].as_str()))
        .map(|it| column(&it[0]))
        // `(created_at, id) < (...)`
        .chain(condition.windows(2).filter(|it| it[0] == "(").map(|it| column(&it[1])))
        .chain(condition.windows(2).filter(|it| it[0] == "AND").map(|it| column(&it[1])))
        .collect();
    keys.get(table).is_some_and(|keys| {
        keys.iter().any(|key| {
            let n = key.iter().take_while(|it| compared.contains(it)).count();
            // A session's row is not found by its bucket alone, unless the rest is an order.
            n >= 2.min(key.len()) || n == 1 && key[0] != "bucket"
        })
    })
}

/// `None` if it is of an allowed shape.
fn objection(statement: &str, keys: &BTreeMap<String, Vec<Vec<String>>>) -> Option<String> {
    if ABOUT_THE_SERVER.contains(&statement) {
        return None;
    }
    let words = words(statement);
    for pair in words.windows(2).filter(|it| it[1] == "(") {
        let name = pair[0].to_lowercase();
        let is_call = pair[0].chars().all(|it| it.is_lowercase() || it == '_') || name == "any";
        let is_column_list = words.iter().any(|it| it == &format!("everstate.{name}"))
            || ["new", "old", "ours", "key", "it"].contains(&name.as_str());
        if is_call && !is_column_list && !FUNCTIONS.contains(&name.as_str()) {
            return Some(format!("calls {name}"));
        }
    }
    for word in
        ["WITH", "SKIP", "NOWAIT", "nextval", "NOTIFY", "LISTEN", "TRUNCATE", "MERGE", "USING"]
    {
        if words.iter().any(|it| it == word) {
            return Some(format!("uses {word}"));
        }
    }
    let table_of =
        |words: &[String], after: &str| between(words, after, &[]).map(|it| it[0].clone());
    let known = |table: &String| keys.contains_key(table) || READ_WHOLE.contains(&table.as_str());
    let mut condition = between(&words, "WHERE", AFTER_WHERE).unwrap_or_default();
    // What it is ordered by narrows it as well: it reads on from there.
    let order = between(&words, "ORDER BY", &["LIMIT"]).unwrap_or_default();
    condition.extend(order.iter().flat_map(|it| [it.clone(), "=".to_owned()]));
    match words[0].as_str() {
        "INSERT" => {
            let Some(table) = table_of(&words, "INSERT INTO") else {
                return Some("inserts into nothing".to_owned());
            };
            if !known(&table) {
                return Some(format!("no table {table}"));
            }
            match between(&words, "SELECT", &["CONFLICT"]) {
                // From the values it was given, and perhaps the session's row that they are held against.
                Some(select) => {
                    let from =
                        between(&select, "FROM", &[]).unwrap_or_else(|| vec!["nothing".to_owned()]);
                    let rest = from.iter().any(|it| it == "everstate.session");
                    let takes = from[0] == "unnest" || from[0] == "everstate.session";
                    let locks = select.iter().any(|it| it == "FOR");
                    (!takes || rest != locks).then(|| "inserts what others hold".to_owned())
                }
                None => {
                    between(&words, "VALUES", &[]).is_none().then(|| "inserts nothing".to_owned())
                }
            }
        }
        "UPDATE" | "DELETE" => {
            let verb = if words[0] == "UPDATE" { "UPDATE" } else { "DELETE FROM" };
            let Some(table) = table_of(&words, verb) else {
                return Some("touches nothing".to_owned());
            };
            if words[0] == "UPDATE"
                && between(&words, "FROM", &[]).is_some_and(|it| it[0] != "unnest")
            {
                return Some("updates from another table".to_owned());
            }
            (!goes_by_key(&table, &condition, keys))
                .then(|| format!("touches {table} not by a key"))
        }
        "SELECT" => {
            let Some(from) = between(&words, "FROM", &[]) else {
                return Some("reads nothing".to_owned());
            };
            if READ_WHOLE.contains(&from[0].as_str()) {
                return None;
            }
            if from[0] == "unnest" {
                // A look into each of some buckets.
                let Some(inner) = between(&words, "LATERAL", &["AS"]) else {
                    return Some("reads what it was given".to_owned());
                };
                let inner = inner[1..inner.len() - 1].join(" ");
                return objection(&inner.replace(" . ", "."), keys);
            }
            if words.iter().any(|it| it == "JOIN") {
                return Some("joins tables".to_owned());
            }
            if words.iter().any(|it| it == "FOR") && from[0] != "everstate.session" {
                return Some("locks what is no session".to_owned());
            }
            (!goes_by_key(&from[0], &condition, keys))
                .then(|| format!("reads {} not by a key", from[0]))
        }
        other => Some(format!("is a {other}")),
    }
}

#[test]
fn every_statement_is_of_one_of_the_shapes() {
    let keys = keys();
    for statement in statements() {
        assert_eq!(objection(&statement, &keys), None, "{statement}");
    }
}

#[test]
fn other_shapes_are_noticed() {
    let keys = keys();
    for (says, statement) in [
        ("not by a key", "SELECT body FROM everstate.event WHERE at > $1"),
        ("not by a key", "SELECT body FROM everstate.event"),
        ("not by a key", "SELECT body FROM everstate.event WHERE bucket = $1"),
        ("not by a key", "DELETE FROM everstate.inbox WHERE key = $1"),
        ("not by a key", "UPDATE everstate.session SET ready = TRUE WHERE summary = $1"),
        ("joins", "SELECT 1 FROM everstate.event JOIN everstate.session ON TRUE WHERE bucket = $1"),
        (
            "SKIP",
            "SELECT data_key FROM everstate.session WHERE bucket = $1 AND session = $2 FOR UPDATE SKIP LOCKED",
        ),
        ("locks", "SELECT seq FROM everstate.event WHERE bucket = $1 AND session = $2 FOR UPDATE"),
        ("WITH", "WITH gone AS (DELETE FROM everstate.event) SELECT 1"),
        ("calls pg_advisory_lock", "SELECT pg_advisory_lock(1)"),
        ("calls nextval", "INSERT INTO everstate.doomed (data_key) VALUES (nextval($1))"),
        (
            "others hold",
            "INSERT INTO everstate.doomed (data_key) SELECT data_key FROM everstate.event",
        ),
        (
            "another table",
            "UPDATE everstate.session SET ready = TRUE FROM everstate.event AS e WHERE bucket = $1 AND session = $2",
        ),
        ("is a LISTEN", "LISTEN everstate"),
        ("is a SET", "SET synchronous_commit = off"),
    ] {
        let said = objection(statement, &keys);
        assert!(
            said.as_ref().is_some_and(|it| it.contains(says) || says.starts_with("is a")),
            "{statement}: {said:?}"
        );
    }
}
