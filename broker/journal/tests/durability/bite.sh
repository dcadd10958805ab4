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

# bite GUARD TEST WORDS: fails for the reason that it is there for, which WORDS (extended
# regular expression) tells; anything else proves nothing.
bite() {
    if ! run "$2"; then
        echo "$2 fails with every guard in place:"
        tail -n 20 "$CARGO_TARGET_DIR/bite.log"
        status=1
    elif WEIR_SABOTAGE="$1" run "$2"; then
        echo "$1: $2 did NOT notice"
        status=1
    elif ! grep -qE "$3" "$CARGO_TARGET_DIR/bite.log"; then
        echo "$1: $2 fails, not by /$3/:"
        tail -n 20 "$CARGO_TARGET_DIR/bite.log"
        status=1
    else
        echo "$1: $2 noticed: $(grep -m 1 -E "$3" "$CARGO_TARGET_DIR/bite.log" | cut -c 1-160)"
    fi
}

cargo test -q -p weir-journal --test durability --no-run
bite no-sync any_subset_survives 'where one was synced'
bite no-sync crash_in_recovery 'where one was synced'
bite no-sync slow_sync_simulated '(safe|stable) while the sync is held'
bite no-sync dead_letter_atomic 'is in neither queue|lost .*queue/orders'
bite no-second-sync allocated_files '@[0-9]+ is lost|queue/[0-9] is gone'
bite no-mark bitrot_below_mark '@[0-9]+ is lost'
bite no-folder-sync any_subset_survives 'is gone|where one was synced'
bite no-folder-sync retention_crash 'is gone|where one was synced|is missing'
exit "$status"
