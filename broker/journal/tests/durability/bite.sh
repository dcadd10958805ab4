#!/bin/sh
# Takes one guard after another out of the journal, and sees that its tests notice:
# a test that passes without the guard it is there for proves nothing.
#
# Usage: broker/journal/tests/durability/bite.sh
# Needs a build of its own (`--cfg weir_sabotage`), below the target folder.
set -eu
cd "$(dirname "$0")/../../../.."
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sabotage"
RUSTFLAGS="--cfg weir_sabotage"
export CARGO_TARGET_DIR RUSTFLAGS
unset WEIR_SABOTAGE WEIR_DURABILITY WEIR_DURABILITY_SEED WEIR_DURABILITY_SEEDS || true
status=0

run() {
    cargo test -q -p weir-journal --test durability -- "$1::$1" >"$CARGO_TARGET_DIR/bite.log" 2>&1
}

bite() {
    guard="$1"
    shift
    for test in "$@"; do
        if ! run "$test"; then
            echo "$test fails with every guard in place:"
            tail -n 20 "$CARGO_TARGET_DIR/bite.log"
            status=1
        elif WEIR_SABOTAGE="$guard" run "$test"; then
            echo "$guard: $test did NOT notice"
            status=1
        else
            echo "$guard: $test noticed"
        fi
    done
}

cargo test -q -p weir-journal --test durability --no-run
bite no-sync any_subset_survives crash_in_recovery slow_sync_simulated dead_letter_atomic
bite no-mark bitrot_below_mark
bite no-folder-sync any_subset_survives retention_crash
exit "$status"
