//! D1: the process dies at any moment. The page cache survives, so level `os` must
//! hold as well as level `disk`.

use crate::proof::Proof;
use crate::story::lives;

#[test]
fn ack_survives_kill9() {
    let mut proof = Proof::begin("ack_survives_kill9", (12, 200));
    let folder = proof.folder();
    lives(&mut proof, &folder, true, |broker, load, random, _| {
        load.reach(1 + random.below(6000) as u64);
        broker.kill();
        load.lines()
    });
}
