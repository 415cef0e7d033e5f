use super::*;

const FIRST: &str = "CREATE TABLE note (text TEXT) STRICT; INSERT INTO note VALUES ('kept');";
const SECOND: &str = "ALTER TABLE note ADD COLUMN author TEXT;";

static ONE: Schema = Schema { what: "note", application_id: 7, steps: &[FIRST], additions: "" };
static TWO: Schema =
    Schema { what: "note", application_id: 7, steps: &[FIRST, SECOND], additions: "" };
static OTHER: Schema =
    Schema { what: "note", application_id: 7, steps: &["SELECT 1;", SECOND], additions: "" };
static BAD: Schema =
    Schema { what: "note", application_id: 7, steps: &[FIRST, "CREATE nonsense"], additions: "" };

fn at(path: &Path, schema: &Schema) -> Result<String, OpenError> {
    refuse_foreign(path, schema)?;
    let mut db = Connection::open(path).expect("ours");
    migrate(&mut db, path, schema)?;
    Ok(db.query_row("SELECT text FROM note", [], |it| it.get(0)).expect("it is there"))
}

#[test]
fn an_old_file_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    for schema in [&ONE, &ONE, &TWO, &TWO] {
        assert_eq!(at(&path, schema), Ok("kept".to_owned()));
    }
    let older = at(&path, &ONE);
    assert_eq!(older, Err(OpenError::Newer { path: path.clone(), found: 2, known: 1 }));
}

#[test]
fn another_history_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    at(&path, &ONE).expect("it is new");
    assert!(matches!(at(&path, &OTHER), Err(OpenError::Foreign(_))));
    assert!(matches!(at(&path, &STATE), Err(OpenError::Foreign(_))));
}

#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    at(&path, &ONE).expect("it is new");
    assert!(matches!(at(&path, &BAD), Err(OpenError::Down(_))));
    assert_eq!(at(&path, &ONE), Ok("kept".to_owned()));
}
