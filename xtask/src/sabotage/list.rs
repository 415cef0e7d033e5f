//! The faults. Each breaks one promise in a way that compiles and that a hurried change could bring about.
//!
//! `find` must stand exactly once in its file; when the source moves on, a test says which entry has to follow.

use super::{Edit, Fault};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "fence dropped",
        means: "two owners write the same session",
        edits: &[
            Edit {
                file: "crates/store/src/sqlite/apply.rs",
                find: "if header.seq != end.seq + 1 || header.prev != end.hash {",
                replace: "if false {",
            },
            Edit {
                file: "crates/store/src/sqlite/statements.rs",
                find: r#"pub(crate) const INSERT_EVENT: &str = "\
    INSERT INTO"#,
                replace: r#"pub(crate) const INSERT_EVENT: &str = "\
    INSERT OR REPLACE INTO"#,
            },
        ],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "acknowledged before commit",
        means: "a client is told that something is kept, and a power cut takes it",
        edits: &[
            Edit {
                file: "crates/store/src/sqlite/writer.rs",
                find: "        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;",
                replace: r#"        // What was answered is committed when the next batch comes.
        if !db.is_autocommit() {
            db.execute_batch("COMMIT")?;
        }
        db.execute_batch("BEGIN IMMEDIATE")?;
        let tx = &*db;"#,
            },
            Edit {
                file: "crates/store/src/sqlite/writer.rs",
                find: r#"        tx.commit()?;
"#,
                replace: "",
            },
        ],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "dedupe off",
        means: "an input that is sent twice happens twice",
        edits: &[
            Edit {
                file: "crates/store/src/sqlite/apply.rs",
                find: "return Ok(Wrote::Seen(seq));",
                replace: "let _: Seq = seq;",
            },
            Edit {
                file: "crates/store/src/sqlite/apply.rs",
                find: r#"            run(db, sql::INSERT_DEDUPE, (bucket, id, key, seq))?;
"#,
                replace: r#"            let _ = key;
"#,
            },
        ],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "keys of the deleted kept",
        means: "what was deleted is read from a backup of the state",
        edits: &[Edit {
            file: "crates/store/src/facts.rs",
            find: r#"        self.log.keys.destroy(doomed.clone()).await?;
"#,
            replace: "",
        }],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "destroyed keys left on their pages",
        means: "whoever has the disk and the master key reads what was deleted",
        edits: &[Edit {
            file: "crates/store/src/keys/file.rs",
            find: r#"db.pragma_update(None, "secure_delete", true).map_err(down)?;"#,
            replace: r#"db.pragma_update(None, "secure_delete", false).map_err(down)?;"#,
        }],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "what is never written, written",
        means: "contents of a project that keeps nothing lie on its disk",
        edits: &[Edit {
            file: "crates/runtime/src/driver.rs",
            find: "true => Said::Veiled { facts: veiled(&thought.append).encode().into(), contents },",
            replace: "true => Said::Veiled { facts: contents.clone(), contents },",
        }],
        tests: &["-p", "everstate-server"],
    },
    Fault {
        name: "named blob collected",
        means: "a big body that was acknowledged is removed from its place",
        edits: &[Edit {
            file: "crates/store/src/facts.rs",
            find: "|| self.log.shelf.has_blob(session, name).await?",
            replace: "",
        }],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "blobs of others collected",
        means: "two installations empty one place for each other",
        edits: &[Edit {
            file: "crates/store/src/blobs/claim.rs",
            find: "if theirs == ours.as_bytes() {",
            replace: "if !theirs.is_empty() {",
        }],
        tests: &["-p", "everstate-store"],
    },
    Fault {
        name: "frame shown before commit",
        means: "a client saw what a resumed stream does not know",
        edits: &[Edit {
            file: "crates/runtime/src/driver.rs",
            find: r#"            self.land(RowKind::Frame, now, body, None, Vec::new(), None).await?;
            self.shown.entry(attempt).or_default().push(&frame);
            let (seq, frame) = (self.head.seq, Arc::new(frame));
            self.host.hub.tell(self.session, seq - 1, || News::Told(Told::Frame { seq, frame }));"#,
            replace: r#"            self.shown.entry(attempt).or_default().push(&frame);
            let (seq, frame) = (self.head.seq + 1, Arc::new(frame));
            self.host.hub.tell(self.session, seq - 1, || News::Told(Told::Frame { seq, frame }));
            self.land(RowKind::Frame, now, body, None, Vec::new(), None).await?;"#,
        }],
        tests: &["-p", "everstate-runtime"],
    },
    Fault {
        name: "piece told after a gap",
        means: "a client is shown an answer from which words are missing",
        edits: &[Edit {
            file: "crates/runtime/src/tail.rs",
            find: "let follows = piece.n == heard;",
            replace: "let follows = piece.n >= heard;",
        }],
        tests: &["-p", "everstate-runtime", "-E", "test(tailing)"],
    },
    Fault {
        name: "others' callers forgotten",
        means: "a turn is cancelled while somebody waits for it at another node",
        edits: &[Edit {
            file: "crates/runtime/src/attend.rs",
            find: "self.n_here == 0 && self.there.is_empty()",
            replace: "self.n_here == 0",
        }],
        tests: &["-p", "everstate-runtime", "-E", "test(clustering)"],
    },
    Fault {
        name: "adoption skipped",
        means: "work of a lost owner is waited for, for ever",
        edits: &[Edit {
            file: "crates/kernel/src/decide/adopt.rs",
            find: r#"        if self.live.parked.is_none() {
            self.take_over();
        }
        Ok(())"#,
            replace: "        Ok(())",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "late outcome applied",
        means: "a result that nobody waits for any more changes the transcript",
        edits: &[Edit {
            file: "crates/kernel/src/decide/calls.rs",
            find: "if self.live.calls.get(&call).is_some_and(|it| it.state == CallState::Started) {",
            replace: "if self.live.turn.is_some() {",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "approval not checked",
        means: "a tool runs that a person had to allow",
        edits: &[Edit {
            file: "crates/kernel/src/decide/calls.rs",
            find: "        if server.approval {",
            replace: "        if false {",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "two attempts both accepted",
        means: "one step answers twice",
        edits: &[
            Edit {
                file: "crates/kernel/src/decide/attempts.rs",
                find: r#"        self.push(Event::AttemptChosen { attempt });
        self.drop_others(attempt);"#,
                replace: "        self.push(Event::AttemptChosen { attempt });",
            },
            Edit {
                file: "crates/kernel/src/decide/attempts.rs",
                find: r#"        self.push(Event::Replied { attempt, items, end, cost });
        self.drop_others(attempt);"#,
                replace: "        self.push(Event::Replied { attempt, items, end, cost });",
            },
        ],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "erased item sent",
        means: "what was erased goes to a model",
        edits: &[Edit {
            file: "crates/kernel/src/transcript.rs",
            find: "Event::ItemErased { items } => self.erase(&items.iter().copied().collect()),",
            replace: "Event::ItemErased { .. } => (),",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "limit not asked",
        means: "a session goes on spending after it has spent what it may",
        edits: &[Edit {
            file: "crates/kernel/src/decide/attempts.rs",
            find: "        if self.live.session_left() == Some(0) {",
            replace: "        if false {",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "reservation not returned",
        means: "money that was never spent is missing from the budget",
        edits: &[Edit {
            file: "crates/kernel/src/live.rs",
            find: r#"        self.reserved.remove(&id);
"#,
            replace: "",
        }],
        tests: &["-p", "everstate-kernel"],
    },
    Fault {
        name: "crash forgets what was spent",
        means: "a project spends its money twice",
        edits: &[Edit {
            file: "crates/runtime/src/ledger/reclaim.rs",
            find: "slices.reclaim(name, &traces.spent, traces.under_way)",
            replace: "slices.reclaim(name, &[], traces.under_way)",
        }],
        tests: &["-p", "everstate-runtime", "-E", "test(ledger)"],
    },
    Fault {
        name: "reserved money spent again",
        means: "steps that run at the same time pass the project's limit together",
        edits: &[Edit {
            file: "crates/runtime/src/ledger/purse.rs",
            find: "self.held.saturating_sub(self.spent_sum).saturating_sub(self.reserved_sum)",
            replace: "self.held.saturating_sub(self.spent_sum)",
        }],
        tests: &["-p", "everstate-runtime", "-E", "test(ledger)"],
    },
    Fault {
        name: "packed history not looked at",
        means: "a node that slept writes into the middle of a session that another one has packed",
        edits: &[Edit {
            file: "crates/store/src/postgres/statements.rs",
            find: "WHERE it.data_key = new.data_key AND it.packed < new.seq",
            replace: "WHERE it.data_key = new.data_key",
        }],
        tests: &["-p", "everstate-store", "-E", "test(nodes)"],
    },
    Fault {
        name: "appends under an old key",
        means: "a row is acknowledged and sealed under a key that another node destroys",
        edits: &[Edit {
            file: "crates/store/src/postgres/statements.rs",
            find: "WHERE it.data_key = new.data_key AND it.packed < new.seq",
            replace: "WHERE it.packed < new.seq",
        }],
        tests: &["-p", "everstate-store", "-E", "test(nodes)"],
    },
    Fault {
        name: "posts under an old key",
        means: "a post is acknowledged and sealed under a key that another node destroys",
        edits: &[Edit {
            file: "crates/store/src/postgres/statements.rs",
            find: "WHERE it.bucket = $1 AND it.session = $2 AND it.data_key = $4",
            replace: "WHERE it.bucket = $1 AND it.session = $2",
        }],
        tests: &["-p", "everstate-store", "-E", "test(nodes)"],
    },
    Fault {
        name: "erased as it was read",
        means: "what other nodes wrote during an erasure is lost",
        edits: &[Edit {
            file: "crates/store/src/postgres/change.rs",
            find: "    if !same {",
            replace: "    if !same && false {",
        }],
        tests: &["-p", "everstate-store", "-E", "test(nodes)"],
    },
    Fault {
        name: "own row not recognised",
        means: "an append whose answer was lost is refused though it has landed",
        edits: &[Edit {
            file: "crates/store/src/postgres/apply.rs",
            find: "    if there == Some(header.mac) {",
            replace: "    if there == Some(header.mac) && false {",
        }],
        tests: &["-p", "everstate-store", "-E", "test(faults)"],
    },
    Fault {
        name: "cancelled replication believed",
        means: "what no standby has is acknowledged, and a fail-over takes it",
        edits: &[Edit {
            file: "crates/store/src/postgres/connect.rs",
            find: r#"it.starts_with("SyncRep")"#,
            replace: r#"it.starts_with("no such place")"#,
        }],
        tests: &["-p", "everstate-store", "-E", "test(server)"],
    },
];
