//! What is in a database, as a script that makes it again: for fixtures, of which later releases read what this one wrote.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Cluster;

/// Those of a store, and which of its steps make them.
const SCHEMAS: [(&str, &str); 2] = [("everstate", "state_"), ("everstate_keys", "keys_")];

impl Cluster {
    /// A store's database: its definitions as the files in `steps` make them, in SQL, and what is in it. Each table is
    /// ordered by all it has, so that the same contents are the same text.
    pub fn dump(&self, database: &str, steps: &Path) -> String {
        let mut files: Vec<PathBuf> =
            fs::read_dir(steps).expect("steps").map(|it| it.expect("a step").path()).collect();
        files.sort();
        let mut script = String::new();
        for (schema, prefix) in SCHEMAS {
            writeln!(
                script,
                "CREATE SCHEMA {schema};\nCREATE TABLE {schema}.migration \
                 (version integer NOT NULL, checksum bytea NOT NULL, PRIMARY KEY (version));"
            )
            .expect("it is text");
            let name =
                |it: &Path| it.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What is only added is added by whoever opens it.
            let is_step = |it: &&PathBuf| {
                let name = name(it);
                let rest = name.strip_prefix(prefix);
                rest.is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()))
            };
            for step in files.iter().filter(is_step) {
                script.push_str(&fs::read_to_string(step).expect("a step is text"));
            }
        }
        for (schema, _) in SCHEMAS {
            let tables = self.sql(
                database,
                &format!(
                    "SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' \
                     AND tablename <> 'addition' ORDER BY 1"
                ),
            );
            for table in tables.lines() {
                // Columns that follow from others are not copied.
                let columns = self.sql(
                    database,
                    &format!(
                        "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) \
                         FROM information_schema.columns WHERE is_generated = 'NEVER' \
                         AND table_schema = '{schema}' AND table_name = '{table}'"
                    ),
                );
                let columns = columns.trim();
                let rows = self.sql(
                    database,
                    &format!(
                        "COPY (SELECT {columns} FROM {schema}.{table} it ORDER BY it) TO STDOUT"
                    ),
                );
                writeln!(script, "COPY {schema}.{table} ({columns}) FROM stdin;")
                    .expect("it is text");
                if !rows.is_empty() {
                    writeln!(script, "{rows}").expect("it is text");
                }
                script.push_str("\\.\n");
            }
        }
        script
    }
}
