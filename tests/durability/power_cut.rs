//! D2: the power goes at any moment. What was not synced is gone; a broker that
//! finds its disk gone ends itself.

use crate::broker::STORE_FAILED;
use crate::check::Faults;
use crate::disk::Disk;
use crate::proof::Proof;
use crate::readers::Readers;
use crate::story::{FLOW, PARTITIONS, lives};

#[test]
fn ack_survives_power_cut() {
    let mut proof = Proof::begin("ack_survives_power_cut", (10, 500));
    let Some(disk) = proof.needs(Disk::ext4("ack_survives_power_cut", 512)) else { return };
    lives(&mut proof, disk.path(), false, |broker, load, random, story| {
        // What a reader of level `disk` has seen must not go away either.
        let readers = Readers::start(&broker.address, FLOW, PARTITIONS);
        load.reach(1 + random.below(6000) as u64);
        disk.cut();
        let ended = broker.ended();
        assert_eq!(ended.code, STORE_FAILED, "{ended:#?}");
        let lines = load.lines();
        let mut faults = Faults::default();
        story.saw(&readers.histories(&mut faults), &mut faults);
        faults.none("what readers saw");
        disk.mount_again();
        lines
    });
}
