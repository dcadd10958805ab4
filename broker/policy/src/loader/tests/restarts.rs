//! What the archive keeps: numbers, what ran, what was rolled back, what there is to
//! go back to, and state whose operator wants it kept.

use super::*;
use crate::kv::Transaction;

fn to(desk: &Desk) -> String {
    desk.status("in").config["rules"][0]["to"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_files_are_the_same_generation_after_a_restart() {
    let mut desk = desk();
    desk.loader.pass(true);
    assert!(desk.shelf.values.lock().unwrap().is_empty(), "defaults need no archive");
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.pass();
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert_eq!(desk.stand("in"), "active@2");
    let desk = desk.restart();
    assert_eq!((desk.stand("in"), to(&desk)), ("active@2".into(), "b".into()));
    let puts = desk.shelf.puts.load(Ordering::Relaxed);
    let mut desk = desk.restart();
    assert_eq!(desk.shelf.puts.load(Ordering::Relaxed), puts, "nothing is new");
    // There is still something to go back to, and numbers go on.
    desk.loader.rollback("in").unwrap();
    assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@3".into(), "a".into()));
}

#[test]
fn what_was_rolled_back_stays_out_after_a_restart_until_a_file_changes() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    desk.loader.rollback("in").unwrap();
    let error = desk.error("in");
    let mut desk = desk.restart().restart();
    assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@3".into(), "a".into()));
    assert_eq!(desk.error("in"), error);
    desk.pass();
    assert_eq!(desk.stand("in"), "rolled-back@3");
    // A second one undoes the first, over a restart too.
    desk.loader.rollback("in").unwrap();
    assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@4".into(), "b".into()));
    let mut desk = desk.restart();
    assert_eq!(desk.stand("in"), "active@4", "it is what lies on disk");
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.pass();
    assert_eq!((desk.stand("in"), to(&desk)), ("active@5".into(), "a".into()));
}

#[test]
fn a_broken_file_does_not_take_away_what_ran_before_the_restart() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/extra.wasm", variant(&router(), 1));
    let binding = TO_A.replace("subject-router", "extra");
    desk.disk.write("/d/bindings/in.toml", binding.as_str());
    desk.loader.pass(true);
    assert_eq!(desk.stand("in"), "active@1");
    let digest = desk.status("in").digest;
    desk.disk.write("/d/plugins/extra.wasm", &b"\0asm is not enough"[..]);
    desk.disk.write("/d/bindings/in.toml", "policy = 'no");
    let desk = desk.restart();
    assert_eq!(desk.stand("in"), "kept@1");
    assert_eq!(desk.status("in").digest, digest, "its component comes from the archive");
    // Replaced while nothing ran: the number after, and a way back.
    desk.disk.write("/d/bindings/in.toml", TO_B);
    let mut desk = desk.restart();
    assert_eq!((desk.stand("in"), to(&desk)), ("active@2".into(), "b".into()));
    desk.loader.rollback("in").unwrap();
    assert_eq!(desk.status("in").digest, digest);
}

#[test]
fn a_component_that_rotted_in_the_archive_is_not_run() {
    let mut desk = desk();
    desk.disk.write("/d/plugins/extra.wasm", variant(&router(), 1));
    let binding = TO_A.replace("subject-router", "extra");
    desk.disk.write("/d/bindings/in.toml", binding.as_str());
    desk.loader.pass(true);
    let digest = desk.status("in").digest;
    desk.shelf.blobs.lock().unwrap().insert(digest, Bytes::from(variant(&router(), 2)));
    desk.disk.remove("/d/plugins/extra.wasm");
    let desk = desk.restart();
    assert_eq!(desk.stand("in"), "failed@0");
    assert!(desk.error("in").contains("no plugin"), "{}", desk.error("in"));
}

#[test]
fn numbers_go_on_for_a_binding_that_was_away() {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    desk.disk.remove("/d/bindings/in.toml");
    let mut desk = desk.restart().restart();
    assert_eq!(desk.stand("in"), "removed@0");
    desk.disk.write("/d/bindings/in.toml", TO_B);
    desk.pass();
    assert_eq!(desk.stand("in"), "active@3");
}

#[test]
fn state_comes_back_where_the_operator_wants_it_kept() {
    let kv = |desk: &Desk| {
        let record = desk.loader.records.get("in").unwrap();
        Arc::clone(&record.active.as_ref().unwrap().good.kv)
    };
    for keeps in [true, false] {
        let mut desk = desk();
        let text = format!("keep-kv = {keeps}\n{TO_A}");
        desk.disk.write("/d/bindings/in.toml", text.as_str());
        desk.loader.pass(true);
        let mut call = Transaction::default();
        assert!(kv(&desk)[1].put(&mut call, 0, "seen".into(), vec![7], 0));
        assert_eq!(kv(&desk)[1].commit(&mut call, 0), 0);
        assert_eq!(desk.loader.keeps_state(), keeps);
        desk.loader.save_state();
        let puts = desk.shelf.puts.load(Ordering::Relaxed);
        desk.loader.save_state();
        assert_eq!(desk.shelf.puts.load(Ordering::Relaxed), puts, "it has not changed");
        let desk = desk.restart();
        let found = kv(&desk)[1].get(&Transaction::default(), 0, "seen");
        assert_eq!(found, keeps.then(|| vec![7]));
        assert_eq!(kv(&desk)[0].bytes(), 0);
    }
}
