use super::*;

fn naming() -> Arc<Naming> {
    Arc::new(Naming::new(&[7; 32]))
}

#[test]
fn every_name_comes_back_as_it_went() {
    let naming = naming();
    for kind in Kind::ALL {
        for turn in [0, 1, 127, 128, 16_384, u32::MAX] {
            for n in [0, 1, 300, u32::MAX] {
                let name = Name { kind, session: SessionId(u128::MAX / 3), turn, n };
                let text = naming.write("demo", name);
                assert_eq!(naming.read("demo", &text), Some(name), "{text}");
                assert!(text.len() <= 64, "{text}");
            }
        }
    }
}

#[test]
fn a_name_of_another_project_kind_or_installation_is_none() {
    let naming = naming();
    let name = Name { kind: Kind::Response, session: SessionId(1), turn: 1, n: 0 };
    let text = naming.write("demo", name);
    assert_eq!(naming.read("other", &text), None);
    assert_eq!(naming.read("demo", &text.replacen("resp_", "msg_", 1)), None);
    assert_eq!(Naming::new(&[8; 32]).read("demo", &text), None);
    for place in 0..text.len() {
        for letter in ["0", "z", "U", "-"] {
            let mut forged = text.clone();
            forged.replace_range(place..=place, letter);
            assert!(forged == text || naming.read("demo", &forged).is_none(), "{forged}");
        }
    }
    for nonsense in ["", "resp_", "resp_0", "ses_", "resp_é", &format!("resp_{}", "0".repeat(99))]
    {
        assert_eq!(naming.read("demo", nonsense), None, "{nonsense}");
    }
}

#[test]
fn events_are_named_in_their_order() {
    let naming = naming();
    let session = SessionId(u128::MAX / 3);
    let keys = [(1, 0), (1, 1), (1, 300), (2, 0), (255, u32::MAX), (256, 0), (1 << 40, 7)];
    let texts: Vec<String> =
        keys.iter().map(|&(seq, n)| naming.write_event("demo", session, seq, n)).collect();
    assert!(texts.is_sorted_by(|a, b| a < b), "{texts:?}");
    for (key, text) in keys.iter().zip(&texts) {
        assert_eq!(naming.read_event("demo", session, text), Some(*key));
        assert_eq!(naming.read_event("other", session, text), None);
        assert_eq!(naming.read_event("demo", SessionId(1), text), None);
        assert_eq!(naming.read("demo", text), None);
    }
    for nonsense in ["", "evt_", "evt_0", &format!("evt_{}", "0".repeat(99)), &texts[0][1..]] {
        assert_eq!(naming.read_event("demo", session, nonsense), None, "{nonsense}");
    }
}

#[test]
fn what_a_fork_inherited_keeps_its_names() {
    let naming = naming();
    let about = |id, lineage| About {
        id: SessionId(id),
        project: "demo".into(),
        door: "responses".into(),
        named: false,
        metadata: None,
        settings: None,
        created_at: 0,
        lineage,
        origin: None,
    };
    let grandparent = about(1, vec![]);
    let parent = about(2, vec![Lineage { session: SessionId(1), through: 3 }]);
    let fork = about(
        3,
        vec![
            Lineage { session: SessionId(1), through: 3 },
            Lineage { session: SessionId(2), through: 5 },
        ],
    );
    let call = |about: &About, turn| SessionNames::of(&naming, about).call(CallId { turn, n: 2 });
    assert_eq!(call(&fork, 2), call(&grandparent, 2));
    assert_eq!(call(&fork, 3), call(&parent, 3));
    assert_eq!(call(&fork, 4), call(&parent, 4));
    assert_ne!(call(&fork, 6), call(&parent, 6));
}
