#!/bin/sh
# The whole proof: each test of the list of promises in full, on the simulated disk, in
# the simulation and on real disks, and one dated report of all: docs/durability-report.md.
#
#   tests/durability/full.sh
#   WEIR_DURABILITY=trimmed tests/durability/full.sh
#
# The second tries it out, with the counts of `cargo test`. With those, or with others
# (WEIR_DURABILITY_RUNS on real disks, WEIR_DURABILITY_SEEDS on the simulated one,
# WEIR_SIM_SEEDS), the report is target/durability-report.md. Where the million seeds of
# D3 take too long WEIR_DURABILITY_SEEDS_MAX bounds what one test on the simulated disk
# runs; the report says how many were wanted.
#
# Needs what the tests on real disks need: root, ext4, perl and strace. A test that lacks
# something says SKIPPED, and its row why. Ends with an error when a test failed, did not
# finish, has not run or left a part out; then the report stays in target/.
set -eu
cd "$(dirname "$0")/../.."
export WEIR_DURABILITY="${WEIR_DURABILITY:-full}"
counts="${WEIR_DURABILITY_RUNS:-}${WEIR_DURABILITY_SEEDS:-}${WEIR_SIM_SEEDS:-}"
# The first means that seed and no other on the simulated disk, the others another program,
# files that are made to fit, and guards that are taken out.
unset WEIR_DURABILITY_SEED WEIR_BIN WEIR_BLESS WEIR_SABOTAGE

# What does not build ends it here, and the times are those of the tests.
cargo test --release -p weir-journal --test durability --no-run
cargo test --release -p weir-tests --test sim --no-run
cargo test --release -p weir-tests --test durability --no-run

# What an earlier run has left must not pass for what this one did.
report=target/durability-report.md
rows=target/durability-rows
rm -rf "$report" "$rows"
mkdir -p "$rows"
# The tests run in the folders of their crates.
export WEIR_DURABILITY_REPORT="$PWD/$report" WEIR_DURABILITY_ROWS="$PWD/$rows"
tree=$(git describe --always --dirty)
echo "$(date -u +%F), commit $tree, the release build" >"$rows/begun"
status=0

echo "== the simulated disk"
cargo test --release -p weir-journal --test durability || status=1

echo "== the simulation"
# It leaves no row by itself: its crate's other tests know nothing of the report.
wanted=10000
seeds=$wanted
[ "$WEIR_DURABILITY" = full ] || seeds=200
seeds="${WEIR_SIM_SEEDS:-$seeds}"
runs=$seeds
[ "$seeds" = $wanted ] || runs="$seeds of $wanted wanted"
log="$rows/sim.log"
outcome=held
begun=$(date +%s)
export WEIR_SIM_SEEDS="$seeds"
if ! cargo test --release -p weir-tests --test sim -- --nocapture >"$log" 2>&1; then
    status=1
    outcome='**did not finish**'
    if grep -q '^test result: FAILED' "$log"; then
        outcome='**not held**'
    fi
fi
seconds=$(($(date +%s) - begun))
cat "$log"
# What it did, or the first seed that failed.
figures=$(sed -n -e 's/.*seeds [0-9.]*: Tally { \(.*\) }.*/\1/p' \
    -e 's/.*\(seed [0-9]* failed\);.*/\1/p' "$log" | head -n 1)
range=$(sed -n 's/.*seeds \([0-9.]*\): Tally .*/\1/p' "$log")
if [ "$outcome" = held ] && { [ -z "$range" ] || [ "${range%%..*}" = "${range##*..}" ]; }; then
    status=1
    outcome='**has not run**'
fi
echo "$runs | $outcome | $figures | $seconds | $range" \
    >"$rows/nothing_is_lost_overtaken_or_delivered_after_its_ack"

echo "== real disks"
# Writes the report, test by test, with the rows of those before.
cargo test --release -p weir-tests --test durability || status=1

if ! [ -s "$report" ]; then
    echo "there is no report"
    exit 1
fi
echo "== $report"
# Each row must say that it held, and nothing that a part of it was left out.
if grep -E '^\| [DS][0-9]+ ' "$report" | grep -vE '\| held \|' ||
    grep -E 'skipped: |without [a-z ]+: |\| 0 of [0-9]+ wanted ' "$report"; then
    status=1
fi
if [ "$(grep -cE '^\| [DS][0-9]+ ' "$report")" != 23 ]; then
    echo "the report has not all rows"
    status=1
fi
if [ "$(git describe --always --dirty)" != "$tree" ]; then
    echo "the tree has changed meanwhile: it began as $tree"
    status=1
fi
# What is not whole, or of no commit, does not take the place of what is.
if [ "$status" = 0 ] && [ "${tree%-dirty}" = "$tree" ] && [ "$WEIR_DURABILITY" = full ] && [ -z "$counts" ]; then
    cp "$report" docs/durability-report.md
    echo "== docs/durability-report.md"
fi
exit "$status"
