#!/bin/sh
# Builds the broker, the benchmark and its policy, runs all workloads, and writes
# the results, docs/performance.md and its plots. Arguments go to `weir-bench run`;
# with any, the page is left as it is and only the tables are printed.
#
#   tests/bench/bench.sh
#   tests/bench/bench.sh --only w1,w4 --peers weir,nats --repeats 1 --seconds 1
#
# WEIR names another program to be measured. Of which commit it is nobody knows then but
# whoever built it, who may say so in WEIR_BENCH_COMMIT.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

weir="${WEIR:-}"
if [ -z "$weir" ]; then
    # Of the tree as it is built from, and only if that is one tree.
    WEIR_BENCH_COMMIT=$(git -C "$root" describe --always --dirty 2>/dev/null || true)
    export WEIR_BENCH_COMMIT
    tree() { { git -C "$root" rev-parse HEAD; git -C "$root" diff HEAD; } 2>/dev/null | sha256sum; }
    begun=$(tree)
    cargo build --release --manifest-path "$root/Cargo.toml" -p weir-server
    if [ "$(tree)" != "$begun" ]; then
        echo "the tree has changed while the broker was built: it began as $WEIR_BENCH_COMMIT" >&2
        exit 1
    fi
    weir="${CARGO_TARGET_DIR:-$root/target}/release/weir"
fi
rm -f "$here/dispatcher/bench-dispatcher.wasm"
"$weir" policy build "$here/dispatcher" ||
    echo "the dispatcher was not built: W6 (d) is left out, and its targets are not measured"
cargo build --release --manifest-path "$here/Cargo.toml"
bench="${CARGO_TARGET_DIR:-$here/target}/release/weir-bench"

cd "$here"
# W7 opens 10,000 connections.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"
# What clients free is kept for what they need next: giving it back to the system and
# having it filled with zeros again was a quarter of a client's time.
export MIMALLOC_PURGE_DELAY=60000
"$bench" run --weir "$weir" "$@"
if [ $# -eq 0 ]; then
    "$bench" report results.json --plots "$root/docs/performance" >"$root/docs/performance.md"
    cp results.json "$root/docs/performance/results.json"
fi
