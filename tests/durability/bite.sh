#!/usr/bin/env bash
# Shows that the tests bite: with a guard taken out of the journal, the test that
# watches over it fails; with all guards in, in the very same build, it holds.
#
#   no-sync         blocks are told of as synced before they are
#   no-second-sync  what was only allocated is synced once, as if it were full of zeros
#   no-folder-sync  new files are not synced with their folder
#
# That nothing once synced is cut off as a torn tail is shown on the simulated disk:
# broker/journal/tests/durability/bite.sh.
#
# Needs what the tests need: root, ext4, perl and strace. Takes a few minutes. Ends with 1
# where a test does not bite, and with 2 where all were skipped: then nothing is shown.
set -euo pipefail

# As the compiler's wrapper (see below): the guards can be taken out.
compiler=${1:-}
if [[ "${compiler##*/}" == rustc* ]]; then
    exec "$@" --cfg weir_sabotage --check-cfg 'cfg(weir_sabotage)'
fi

cd "$(dirname "$0")/../.."
sabotaged() { RUSTC_WORKSPACE_WRAPPER="$PWD/tests/durability/bite.sh" cargo "$@"; }

echo "== a build whose guards can be taken out"
built=$(sabotaged build --quiet -p weir-server --bin weir --message-format json-render-diagnostics |
    grep -o '"executable":"[^"]*/weir"' | cut -d'"' -f4)
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
cp "$built" "$kept/weir"
export WEIR_BIN="$kept/weir"
# The program of this name is the whole one again.
cargo build --quiet -p weir-server --bin weir

faults=0
shown=0
skipped=0
# bites GUARD RUNS WORDS TEST: fails for the reason that it is there for, which WORDS
# (extended regular expression) tells; anything else proves nothing.
bites() {
    local guard=$1 runs=$2 words=$3
    local run=(cargo test --quiet -p weir-tests --test durability "$4")
    if ! WEIR_DURABILITY_RUNS=$runs "${run[@]}" >"$kept/log" 2>&1; then
        echo "WRONG   with all guards in: $4"
        tail -20 "$kept/log"
        faults=1
    elif grep -q SKIPPED "$kept/log"; then
        grep -o 'SKIPPED.*' "$kept/log"
        skipped=$((skipped + 1))
    elif WEIR_SABOTAGE=$guard WEIR_DURABILITY_RUNS=$runs "${run[@]}" >"$kept/log" 2>&1; then
        echo "WRONG   nothing fails with $guard: $4"
        faults=1
    elif ! grep -qE "$words" "$kept/log"; then
        echo "WRONG   with $guard $4 fails, not by /$words/"
        tail -20 "$kept/log"
        faults=1
    else
        echo "bites   $guard: $4: $(grep -m1 -E "$words" "$kept/log")"
        grep -m3 -E '^  ' "$kept/log" || true
        shown=$((shown + 1))
    fi
}
bites no-sync 6 'was acknowledged and is lost|was seen up to|nobody can account for it|there is no stream' ack_survives_power_cut
bites no-sync 6 'and its ack was confirmed|there is no queue' confirmed_ack_final
bites no-sync 4 'was acknowledged and is lost|nobody can account for it' fsync_fails_once
bites no-sync 1 'before any sync was over' slow_sync
bites no-second-sync 60 'was acknowledged and is lost|was seen up to|nobody can account for it' ack_survives_power_cut
bites no-folder-sync 12 'was acknowledged and is lost|nobody can account for it|the (queue|stream|group|binding|message) is there' dir_entry_durable
if [ "$skipped" != 0 ]; then
    echo "skipped: $skipped; whether these bite is not known"
fi
if [ "$faults" = 0 ] && [ "$shown" = 0 ]; then
    echo "nothing could be shown here: give the tests what they said they need, and do it again"
    exit 2
fi
exit "$faults"
