//! Files of clients: what they mean, and what is wrong with them.

use super::*;
use crate::policy::clients::LiveCap;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    folder
}

/// What is wrong, without the folder.
fn wrong(folder: &Path, name: &str) -> String {
    let errors = Registry::load(&folder.join(name)).expect_err("mistakes");
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), "folder")
}

#[test]
fn a_file_says_who_may_call() {
    let folder = folder(&[(
        "clients.toml",
        r#"
            [[client]]
            id = "shop-1"
            name = "Web shop"
            scopes = ["orders.read", "orders.write"]
            max_live_sessions = 50

            [[client]]
            id = "shop-2"
            enabled = false
            scopes = ["orders.read", "orders.write"]
            max_live_sessions = "unlimited"

            [[client]]
            id = "shop-3"
        "#,
    )]);
    let registry = Registry::load(&folder.path().join("clients.toml")).unwrap();
    let clients = registry.clients();
    let [one, two, three] = ["shop-1", "shop-2", "shop-3"].map(|id| clients.get(id).unwrap());
    assert_eq!((one.name.as_deref(), one.enabled, one.live_cap), (Some("Web shop"), true, LiveCap::AtMost(50)));
    assert_eq!((two.name.as_deref(), two.enabled, two.live_cap), (None, false, LiveCap::Unlimited));
    assert_eq!((three.enabled, &three.scopes, three.live_cap), (true, &None, LiveCap::Usual));
    let lists = [one, two].map(|client| client.scopes.clone().unwrap());
    assert!(Arc::ptr_eq(&lists[0], &lists[1]), "equal lists are one");
}

#[test]
fn a_folder_is_all_its_files() {
    let folder = folder(&[
        ("b.toml", "[[client]]\nid = \"b\"\n"),
        ("a.toml", "[[client]]\nid = \"a\"\n"),
        ("empty.toml", ""),
        (".hidden.toml", "broken"),
        ("notes.txt", "broken"),
    ]);
    std::fs::create_dir(folder.path().join("c.toml")).unwrap();
    let registry = Registry::load(folder.path()).unwrap();
    assert_eq!(registry.clients().after(None).map(|(id, _)| id).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn all_mistakes_of_all_files_are_found_at_once() {
    let folder = folder(&[
        ("a.toml", "[[client]]\nid = \"one\"\n\n[[client]]\nnmae = \"x\"\nid = \"two\"\n"),
        ("b.toml", "[[client]]\nid = \"three\"\n\n[[client]]\nid = \"four\"\n"),
        (
            "c.toml",
            "[[client]]\nid = \"three\"\nscopes = [\"a b\", \"ä\"]\n\n[[client]]\nname = \" \"\n\n\
             [[client]]\nid = \"a b\"\n\n[[client]]\nid = \"four\"\n\n[[client]]\nid = \"four\"\n",
        ),
        ("d.toml", "[[client]]\nid = \"d\"\nmax_live_sessions = 0\nenabled = \"no\"\n"),
        ("e.toml", "[[client]\n"),
        ("f.toml", "[[clients]]\nid = \"f\"\n"),
        (
            "g.toml",
            "[[client]]\nid = \"g\"\nrate = { window = \"1s\" }\n\n[[client]]\nid = \"h\"\nrate = { requests = 1, window = \"25h\" }\n",
        ),
    ]);
    let wrong = wrong(folder.path(), "");
    for line in [
        "a.toml: 1 mistake",
        "a.toml:5:1: client[1].nmae: unknown key \"nmae\"; did you mean \"name\"?",
        "c.toml: 8 mistakes",
        "c.toml:2:6: client[0].id: there is a client \"three\" already, at b.toml:2:6; remove one of the two",
        "c.toml:3:11: client[0].scopes[0]: \"a b\" is not a scope token (RFC 6749 section 3.3); write each scope on its own",
        "c.toml:3:18: client[0].scopes[1]: \"ä\" is not a scope token (RFC 6749 section 3.3)",
        "c.toml:5:1: client[1]: \"id\" is missing; write id = \"..\", the client-id",
        "c.toml:6:8: client[1].name: the name is empty; leave the key out",
        "c.toml:9:6: client[2].id: \"a b\" is not a client-id; it is 1 to 128 letters, digits, \".\", \"_\" and \"-\"",
        "c.toml:12:6: client[3].id: there is a client \"four\" already, at b.toml:5:6; remove one of the two",
        "d.toml: 2 mistakes",
        "d.toml:3:21: client[0].max_live_sessions: 0 is out of range; write a number from 1 to 4294967295, or \"unlimited\"",
        "d.toml:4:11: client[0].enabled: expected true or false, found text",
        "e.toml: 1 mistake",
        "g.toml:3:8: client[0].rate: \"requests\" is missing; write rate = { requests = 100, window = \"1s\" }",
        "g.toml:7:33: client[1].rate.window: the window is out of range; allowed: 1ms to 24h",
        "f.toml:1:3: clients: unknown key \"clients\"; did you mean \"client\"?",
    ] {
        assert!(wrong.lines().any(|found| found == line), "{line}\n{wrong}");
    }
}

#[test]
fn a_registry_without_clients_is_a_mistake() {
    let folder = folder(&[("empty.toml", "\n")]);
    let empty = "there is no client; add [[client]]";
    assert!(wrong(folder.path(), "empty.toml").starts_with(&format!("empty.toml: 1 mistake\nempty.toml: {empty}")));
    assert!(wrong(folder.path(), "").contains(empty));
    assert!(wrong(folder.path(), "none.toml").contains("none.toml: cannot read it: there is no such file"));
    std::fs::write(folder.path().join("empty.toml"), [0xff]).unwrap();
    assert!(wrong(folder.path(), "empty.toml").contains("it is not UTF-8 text"));
}

#[test]
fn a_change_is_taken_once_it_has_settled_and_a_bad_one_never() {
    let folder = folder(&[("clients.toml", "[[client]]\nid = \"a\"\n")]);
    let path = folder.path().join("clients.toml");
    let registry = Registry::load(&path).unwrap();
    assert!(!registry.has_changed() && !registry.has_changed());

    std::fs::write(&path, "[[client]]\nid = \"bb\"\n").unwrap();
    assert!(!registry.has_changed(), "it may not be whole yet");
    assert!(registry.has_changed());
    registry.reload().unwrap();
    assert!(registry.clients().allow("bb") && !registry.clients().allow("a"));
    assert!(!registry.has_changed() && !registry.has_changed());
    assert_eq!((registry.generation(), registry.report().accepted), (2, 2));

    std::fs::write(&path, "[[client]]\nid = 5\n").unwrap();
    assert!(!registry.has_changed() && registry.has_changed());
    let refusal = registry.reload().unwrap_err();
    assert!(refusal.contains("clients.toml:2:6: client[0].id: expected text, found a number"), "{refusal}");
    assert!(registry.clients().allow("bb") && registry.report().refusal == Some(refusal));
    assert!(!registry.has_changed() && !registry.has_changed(), "said once");

    std::fs::remove_file(&path).unwrap();
    assert!(!registry.has_changed() && registry.has_changed());
    assert!(registry.reload().unwrap_err().contains("there is no such file"));
    assert_eq!((registry.report().refused, registry.generation()), (2, 2));
}

#[test]
fn a_link_that_is_turned_to_another_folder_is_a_change() {
    use std::os::unix::fs::symlink;

    // As Kubernetes lays out a volume: clients.toml → ..data/clients.toml, ..data → a folder that is replaced.
    let folder = tempfile::tempdir().unwrap();
    for (version, id) in [("..one", "a"), ("..two", "b")] {
        std::fs::create_dir(folder.path().join(version)).unwrap();
        std::fs::write(folder.path().join(version).join("clients.toml"), format!("[[client]]\nid = \"{id}\"\n"))
            .unwrap();
    }
    symlink("..one", folder.path().join("..data")).unwrap();
    symlink("..data/clients.toml", folder.path().join("clients.toml")).unwrap();
    for path in [folder.path().to_owned(), folder.path().join("clients.toml")] {
        let turn = |to: &str| {
            symlink(to, folder.path().join("..next")).unwrap();
            std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
        };
        turn("..one");
        let registry = Registry::load(&path).unwrap();
        assert!(registry.clients().allow("a") && registry.clients().len() == 1);
        turn("..two");
        assert!(!registry.has_changed() && registry.has_changed());
        registry.reload().unwrap();
        assert!(registry.clients().allow("b") && registry.clients().len() == 1);
    }
}

#[test]
fn places_are_right_however_long_the_file() {
    let mut text = String::from("# Clients\n");
    for number in 0..2500 {
        text += &format!("[[client]]\nid = \"client-{number}\"\n\n");
    }
    let good = text.clone();
    text += "[[client]]\nid = \"client-7\"\n\n[[client]]\nid = \"client-2400\"\nnam = \"x\"\n";
    let folder = folder(&[("clients.toml", &text)]);
    let expected = "clients.toml: 3 mistakes\n\
        clients.toml:7503:6: client[2500].id: there is a client \"client-7\" already, at clients.toml:24:6; remove one of the two\n\
        clients.toml:7506:6: client[2501].id: there is a client \"client-2400\" already, at clients.toml:7203:6; remove one of the two\n\
        clients.toml:7507:1: client[2501].nam: unknown key \"nam\"; did you mean \"name\"?";
    assert_eq!(wrong(folder.path(), "clients.toml"), expected);

    // A text that looks like the head of a table does not make one.
    let text = good.replace("id = \"client-999\"\n", "id = \"client-999\"\nname = '''\n[[client]]\nid = \"x\"\n'''\n");
    std::fs::write(folder.path().join("clients.toml"), text).unwrap();
    let registry = Registry::load(&folder.path().join("clients.toml")).unwrap();
    assert!(registry.clients().len() == 2500 && !registry.clients().allow("x"));
}

#[test]
fn no_more_mistakes_are_told_than_anybody_reads() {
    let text = "[[client]]\nid = \"a\"\n".repeat(5000);
    let folder = folder(&[("clients.toml", &text)]);
    assert!(wrong(folder.path(), "clients.toml").starts_with("clients.toml: 100 mistakes\n"));
}
