//! What the archive keeps: numbers, what ran, what was rolled back, what there is to
//! go back to, and state whose operator wants it kept.

use super::*;
use crate::kv::{Kv, Transaction};

fn to(desk: &Desk) -> String {
    desk.status("in").config["rules"][0]["to"].as_str().unwrap().to_owned()
}

/// State of the running generation of `in`, by shard.
fn kv(desk: &Desk) -> Arc<[Arc<Kv>]> {
    let record = desk.loader.records.get("in").unwrap();
    Arc::clone(&record.active.as_ref().unwrap().good.kv)
}

/// A call of the policy writes into the second shard's state.
fn put(desk: &Desk, key: &str, value: u8) {
    let mut call = Transaction::default();
    assert!(kv(desk)[1].put(&mut call, 0, key.to_owned(), vec![value], 0));
    assert_eq!(kv(desk)[1].commit(&mut call, 0), 0);
}

fn get(desk: &Desk, key: &str) -> Option<Vec<u8>> {
    kv(desk)[1].get(&Transaction::default(), 0, key)
}

fn keeping(text: &str) -> String {
    format!("keep-kv = true\n{text}")
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
fn what_was_rolled_back_first_stays_out_however_far_back_it_goes() {
    for fails in [false, true] {
        let mut desk = desk();
        for (number, to) in (1..).zip(["a", "b", "c"]) {
            let text = TO_A.replace("to='a'", &format!("to='{to}'"));
            desk.disk.write("/d/bindings/in.toml", text);
            desk.pass();
            assert_eq!(desk.stand("in"), format!("active@{number}"));
        }
        match fails {
            true => desk.trouble("in", 3),
            false => desk.loader.rollback("in").unwrap(),
        }
        assert_eq!(to(&desk), "b");
        desk.loader.rollback("in").unwrap();
        assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@5".into(), "a".into()));
        desk.clock.advance(31_000);
        desk.pass();
        assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@5".into(), "a".into()));
        let mut desk = desk.restart();
        desk.pass();
        assert_eq!((desk.stand("in"), to(&desk)), ("rolled-back@5".into(), "a".into()));
        let text = TO_A.replace("to='a'", "to='c'");
        desk.disk.write("/d/bindings/in.toml", text);
        desk.pass();
        assert_eq!((desk.stand("in"), to(&desk)), ("active@6".into(), "c".into()));
    }
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
    for keeps in [true, false] {
        let mut desk = desk();
        let text = format!("keep-kv = {keeps}\n{TO_A}");
        desk.disk.write("/d/bindings/in.toml", text.as_str());
        desk.loader.pass(true);
        put(&desk, "seen", 7);
        assert_eq!(desk.loader.keeps_state(), keeps);
        desk.loader.save_state();
        let puts = desk.shelf.puts.load(Ordering::Relaxed);
        desk.loader.save_state();
        assert_eq!(desk.shelf.puts.load(Ordering::Relaxed), puts, "it has not changed");
        let desk = desk.restart();
        assert_eq!(get(&desk, "seen"), keeps.then(|| vec![7]));
        assert_eq!(kv(&desk)[0].bytes(), 0);
    }
}

/// A generation whose state need not be kept, and one of the same policy whose must.
fn desk_with_two_generations() -> Desk {
    let mut desk = desk();
    desk.disk.write("/d/bindings/in.toml", TO_A);
    desk.loader.pass(true);
    desk.disk.write("/d/bindings/in.toml", keeping(TO_A));
    desk.pass();
    assert_eq!(desk.stand("in"), "active@2");
    put(&desk, "seen", 7);
    desk.loader.save_state();
    desk
}

#[test]
fn state_comes_back_also_where_an_earlier_generation_kept_none() {
    let mut desk = desk_with_two_generations();
    for _ in 0..2 {
        desk = desk.restart();
        assert_eq!((desk.stand("in"), get(&desk, "seen")), ("active@2".into(), Some(vec![7])));
        desk.loader.save_state();
    }
    desk.loader.rollback("in").unwrap();
    assert_eq!(get(&desk, "seen"), Some(vec![7]), "one policy has one state");
}

#[test]
fn state_waits_for_a_binding_that_is_away_at_the_start() {
    let desk = desk_with_two_generations();
    desk.disk.remove("/d/bindings/in.toml");
    let mut desk = desk.restart();
    assert_eq!(desk.stand("in"), "removed@0");
    desk.disk.write("/d/bindings/in.toml", keeping(TO_A));
    desk.pass();
    assert_eq!((desk.stand("in"), get(&desk, "seen")), ("active@3".into(), Some(vec![7])));
    desk.loader.save_state();
    assert_eq!(get(&desk.restart(), "seen"), Some(vec![7]));
}

#[test]
fn state_waits_for_a_binding_that_is_taken_away_and_put_back() {
    for restarts in [false, true] {
        let mut desk = desk_with_two_generations();
        // Nothing has been kept of this one yet.
        put(&desk, "seen", 8);
        desk.disk.remove("/d/bindings/in.toml");
        desk.pass();
        assert_eq!(desk.stand("in"), "removed@0");
        if restarts {
            desk = desk.restart();
        }
        desk.disk.write("/d/bindings/in.toml", keeping(TO_A));
        desk.pass();
        assert_eq!((desk.stand("in"), get(&desk, "seen")), ("active@3".into(), Some(vec![8])));
        desk.loader.save_state();
        assert_eq!(get(&desk.restart(), "seen"), Some(vec![8]));
    }
}

#[test]
fn another_policys_state_is_kept_however_few_changes_it_had() {
    let mut desk = desk_with_two_generations();
    let other = keeping("policy='at-least-once'\nqueues=['mail-*']");
    desk.disk.write("/d/bindings/in.toml", other);
    desk.pass();
    assert_eq!((desk.stand("in"), get(&desk, "seen")), ("active@3".into(), None));
    put(&desk, "mail", 1);
    desk.loader.save_state();
    let kept = desk.shelf.values.lock().unwrap().get("kv/in/1").cloned().unwrap();
    let found = Kv::default().import(&kept, desk.clock.now());
    assert_eq!(found.as_deref(), Some("at-least-once"));
    assert_eq!(get(&desk.restart(), "mail"), Some(vec![1]));
}

/// One put per shard, and the process may end between two.
#[test]
fn state_that_was_kept_of_one_shard_only_is_not_mixed_with_another_policys() {
    let mut desk = desk_with_two_generations();
    let before = desk.shelf.values.lock().unwrap().get("kv/in/1").cloned().unwrap();
    let other = keeping("policy='at-least-once'\nqueues=['mail-*']");
    desk.disk.write("/d/bindings/in.toml", other);
    desk.pass();
    let mut call = Transaction::default();
    assert!(kv(&desk)[0].put(&mut call, 0, "mail".to_owned(), vec![1], 0));
    assert_eq!(kv(&desk)[0].commit(&mut call, 0), 0);
    desk.loader.save_state();
    desk.shelf.values.lock().unwrap().insert("kv/in/1".to_owned(), before);
    let desk = desk.restart();
    assert_eq!(desk.stand("in"), "active@3");
    assert_eq!(kv(&desk)[0].get(&Transaction::default(), 0, "mail"), Some(vec![1]));
    assert_eq!(get(&desk, "seen"), None, "it is the other policy's");
}

#[test]
fn state_for_which_there_was_no_room_is_kept_when_there_is() {
    let mut desk = desk_with_two_generations();
    put(&desk, "late", 7);
    desk.shelf.is_full.store(true, Ordering::Relaxed);
    desk.loader.save_state();
    desk.shelf.is_full.store(false, Ordering::Relaxed);
    desk.loader.save_state();
    let desk = desk.restart();
    assert_eq!(get(&desk, "late"), Some(vec![7]));
}
