//! Opening a store on PostgreSQL, and servers that are not as they should be.

use std::sync::Arc;
use std::time::Duration;

use everstate_runtime::ports::RowKind;
use everstate_store::open::{OpenError, Settings, open};
use everstate_test_postgres::{Cluster, cluster};
use expect_test::expect;

use crate::stores::{Owner, settings, shown};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// A message without what is another in each run.
fn told(refused: &OpenError, cluster: &Cluster) -> String {
    refused.to_string().replace(&cluster.port().to_string(), "PORT")
}

#[test]
fn a_database_that_is_not_there_is_waited_for() {
    if cluster().is_none() {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let url = cluster.fresh_database();
        cluster.stop();
        let wait = Duration::from_millis(300);
        let refused = open(&url, Settings { wait, ..settings(folder.path()) }).await.unwrap_err();
        let said = told(&refused, &cluster);
        assert!(
            said.starts_with(
                "cannot reach the PostgreSQL database `test_0` at 127.0.0.1:PORT, after waiting"
            ),
            "{said}"
        );
        let starting = Arc::clone(&cluster);
        let later = std::thread::spawn(move || starting.go_on());
        open(&url, settings(folder.path())).await.unwrap();
        later.join().unwrap();
    });
}

#[test]
fn what_will_not_do_is_refused_in_words() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let url = cluster.fresh_database();
        let refused = open(&url, Settings::default()).await.unwrap_err();
        expect!["a store on PostgreSQL has no place of its own for the master key, and all nodes need the same: name one, such as env:EVERSTATE_MASTER_KEY, file:PATH or command:COMMAND"].assert_eq(&told(&refused, &cluster));
        let refused = open(&cluster.url("nowhere"), settings(folder.path())).await.unwrap_err();
        expect![[r#"cannot use the PostgreSQL database `nowhere` at 127.0.0.1:PORT: database "nowhere" does not exist (3D000)"#]].assert_eq(&told(&refused, &cluster));
        let refused = open("postgres://u:secret@h:port/d", settings(folder.path())).await.unwrap_err();
        assert!(!refused.to_string().contains("secret"), "{refused}");
        assert!(matches!(refused, OpenError::BadUrl(_)), "{refused}");

        drop(open(&url, settings(folder.path())).await.unwrap());
        let other = tempfile::tempdir().unwrap();
        let made = format!("sqlite:{}", other.path().join("state.db").display());
        drop(open(&made, settings(other.path())).await.unwrap());
        let refused = open(&url, settings(other.path())).await.unwrap_err();
        assert!(refused.to_string().contains("is not the one that was used before"), "{refused}");
    });
}

#[test]
fn a_server_that_forgets_is_refused() {
    if cluster().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let url = cluster.fresh_database();
        cluster.sql("postgres", "ALTER SYSTEM SET full_page_writes = off");
        cluster.sql("postgres", "SELECT pg_reload_conf()");
        let refused = loop {
            match open(&url, settings(folder.path())).await {
                Ok(_) => cluster.sql("postgres", "SELECT 1"),
                Err(refused) => break refused,
            };
        };
        expect!["cannot use the PostgreSQL database `test_0` at 127.0.0.1:PORT: the server runs with full_page_writes=off: a power cut in the middle of a page destroys what was on it; set full_page_writes=on in postgresql.conf and reload it"].assert_eq(&told(&refused, &cluster));
        cluster.sql("postgres", "ALTER SYSTEM SET fsync = off");
        cluster.stop();
        cluster.go_on();
        let refused = open(&url, settings(folder.path())).await.unwrap_err();
        assert!(refused.to_string().contains("fsync=off: it does not flush"), "{refused}");
    });
}

#[test]
fn a_newer_schema_is_refused_and_not_touched() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for (schema, version) in [("everstate", 1), ("everstate_keys", 1)] {
            let name = cluster.fresh_name();
            let url = cluster.url(&name);
            // Of the other schema nothing is made either.
            cluster.sql(&name, &format!("CREATE SCHEMA {schema}"));
            cluster.sql(
                &name,
                &format!("CREATE TABLE {schema}.migration (version integer, checksum bytea)"),
            );
            cluster.sql(&name, &format!("INSERT INTO {schema}.migration VALUES (99, '')"));
            let refused = open(&url, settings(folder.path())).await.unwrap_err();
            let OpenError::Newer { found: 99, known, .. } = refused else {
                panic!("{schema}: {refused}")
            };
            assert_eq!(known, version, "{schema}");
            let tables = cluster
                .sql(&name, "SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'everstate%'");
            assert_eq!(tables, "1");
        }
        let name = cluster.fresh_name();
        cluster.sql(&name, "CREATE SCHEMA everstate");
        cluster.sql(&name, "CREATE TABLE everstate.migration (version integer, checksum bytea)");
        cluster.sql(&name, "INSERT INTO everstate.migration VALUES (1, 'x')");
        let refused = open(&cluster.url(&name), settings(folder.path())).await.unwrap_err();
        assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
    });
}

#[test]
fn keys_may_live_in_another_database() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (name, keys) = (cluster.fresh_name(), cluster.fresh_name());
        let keys_url = Some(cluster.url(&keys));
        let settings = Settings { keys_url, ..settings(folder.path()) };
        let store = open(&cluster.url(&name), settings.clone()).await.unwrap();
        let mut ours = Owner::new(7);
        ours.events(&*store.log, "hello").await;
        let count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'everstate_keys'";
        assert_eq!(
            (cluster.sql(&name, count), cluster.sql(&keys, count)),
            ("0".to_owned(), "3".to_owned())
        );
        let facts = store.upkeep.facts().await.unwrap();
        assert!(facts.keys.contains(&keys), "{}", facts.keys);
        drop(store);
        let store = open(&cluster.url(&name), settings).await.unwrap();
        assert_eq!(shown(&*store.log, ours.session).await, "1 hello\n");
        // A deletion takes the key from there.
        let n = |what: &str| cluster.sql(&keys, what).parse::<u64>().unwrap();
        let before = n("SELECT count(*) FROM everstate_keys.data_key");
        store.log.delete(ours.session).await.unwrap();
        store.upkeep.flush_erasures().await.unwrap();
        assert_eq!(n("SELECT count(*) FROM everstate_keys.data_key"), before - 1);
    });
}

#[test]
fn doctor_hears_what_an_acknowledged_write_survives() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(&cluster.fresh_database(), settings(folder.path())).await.unwrap();
        let facts = store.upkeep.facts().await.unwrap();
        assert!(facts.schema == 1 && facts.bytes > 1_000_000 && facts.path.is_none(), "{facts:?}");
        assert!(facts.server.is_some_and(|it| it.starts_with("PostgreSQL 1")));
        assert_eq!(facts.blobs_down, None);
        expect![[r#"
            [
                "an acknowledged write survives a crash of the server; no synchronous standby is named, so a fail-over may lose the last moments",
            ]
        "#]].assert_debug_eq(&facts.promise);
    });
}

#[test]
fn a_server_that_takes_no_writes_is_down_and_says_why() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let name = cluster.fresh_name();
        let short = Settings { wait: Duration::from_millis(300), ..settings(folder.path()) };
        let store = open(&cluster.url(&name), short).await.unwrap();
        let mut ours = Owner::new(7);
        ours.events(&*store.log, "before").await;
        // As after a fail-over: connections that are there learn of it at their next transaction.
        cluster.sql(
            "postgres",
            &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
        );
        let others = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        cluster.sql("postgres", &others);
        let row = ours.row(RowKind::Events, b"in vain");
        let down = ours.try_append(&*store.log, row).await.unwrap_err();
        let said = format!("{down:?}");
        assert!(said.contains("25006") && said.contains("standby or read-only"), "{said}");
        assert_eq!(shown(&*store.log, ours.session).await, "1 before\n");
        cluster
            .sql("postgres", &format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
        cluster.sql("postgres", &others);
        ours.events(&*store.log, "after").await;
    });
}

#[test]
fn a_commit_that_no_standby_confirmed_is_not_acknowledged() {
    if cluster().is_none() {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let name = cluster.fresh_name();
        let store = open(&cluster.url(&name), settings(folder.path())).await.unwrap();
        let mut ours = Owner::new(7);
        ours.events(&*store.log, "before").await;
        cluster.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        cluster.sql("postgres", "SELECT pg_reload_conf()");
        let (log, row) = (store.log.clone(), ours.row(RowKind::Events, b"unheard"));
        let append = tokio::spawn(async move { log.append(row).await });
        // Its wait is cancelled, again and again: each time it is on this disk, and nowhere else.
        let waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let mut n_cancelled = 0;
        while n_cancelled < 3 && !append.is_finished() {
            n_cancelled += cluster.sql("postgres", waiting).parse::<u64>().unwrap();
        }
        assert!(!append.is_finished(), "{:?}", append.await);
        cluster.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        cluster.sql("postgres", "SELECT pg_reload_conf()");
        ours.head = append.await.unwrap().unwrap().head;
        ours.events(&*store.log, "after").await;
        assert_eq!(shown(&*store.log, ours.session).await, "1 before\n2 unheard\n3 after\n");
    });
}

#[test]
fn tls_is_spoken_as_the_url_says() {
    if cluster().is_none() {
        return;
    }
    let cluster = Cluster::with_tls();
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let name = cluster.fresh_name();
        let url = cluster.url(&name);
        let roots = Cluster::ca().display().to_string();
        let encrypted = "SELECT bool_and(ssl)::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'everstate'";
        for (options, is_encrypted) in [
            ("sslmode=disable".to_owned(), "false"),
            (String::new(), "true"),
            ("sslmode=require".to_owned(), "true"),
            (format!("sslmode=verify-full&sslrootcert={roots}"), "true"),
        ] {
            let store = open(&format!("{url}?{options}"), settings(folder.path())).await.unwrap();
            assert_eq!(cluster.sql(&name, encrypted), is_encrypted, "{options}");
            drop(store);
            // Its connections are closed some time after it.
            let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everstate'";
            while cluster.sql(&name, ours) != "0" {}
        }
        let wait = Duration::from_millis(100);
        let settings = Settings { wait, ..settings(folder.path()) };
        let refused = open(&format!("{url}?sslmode=verify-full"), settings).await.unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("certificate") && said.contains("UnknownIssuer"), "{said}");
    });
}

#[test]
fn a_role_needs_no_more_than_its_database_and_room_for_its_connections() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let name = cluster.fresh_name();
        let url = cluster.url(&name).replace("everstate@", "guest@");
        cluster.sql("postgres", "DROP ROLE IF EXISTS guest");
        cluster.sql("postgres", "CREATE ROLE guest LOGIN CONNECTION LIMIT 0");
        let wait = Duration::from_millis(100);
        let short = Settings { wait, ..settings(folder.path()) };
        let refused = open(&url, short.clone()).await.unwrap_err().to_string();
        assert!(
            refused.contains("(53300); raise max_connections, or put PgBouncer in front"),
            "{refused}"
        );
        cluster.sql("postgres", "ALTER ROLE guest CONNECTION LIMIT -1");
        let refused = open(&url, short.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("(42501); the role needs to own"), "{refused}");
        cluster.sql("postgres", &format!("GRANT CREATE ON DATABASE {name} TO guest"));
        let store = open(&url, short).await.unwrap();
        let mut ours = Owner::new(7);
        ours.events(&*store.log, "hello").await;
        assert_eq!(shown(&*store.log, ours.session).await, "1 hello\n");
    });
}
