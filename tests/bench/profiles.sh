#!/bin/sh
# Profiles the broker in cells of the benchmark, one file each in docs/performance/profiles:
# where its CPU time goes, the clients' and the machine's left out. Needs root and `perf`.
#
#   tests/bench/profiles.sh WEIR WEIR-BENCH [CELL ...]
#
# A CELL is a workload, and a part of its row's name: "w3 stream 1024". Without any it takes
# those below, in which targets are missed.
set -eu
weir=$(realpath "$1") bench=$(realpath "$2")
shift 2
here=$(cd "$(dirname "$0")" && pwd)
out="$here/../../docs/performance/profiles"
mkdir -p "$out"
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cp "$weir" "$folder/weir"
[ $# -gt 0 ] || set -- "w2 queue 128" "w3 stream 128" "w3 stream 1024" "w4 queue 128" \
    "w4 queue 1024" "w5 64 in" "w6 1→1 128" "w6 4→4 128" "w6 queue 128" "w6 stream 128" \
    "w7 1000 queues" "w7 100000 queues"
# What clients free is kept for what they need next, as in bench.sh.
export MIMALLOC_PURGE_DELAY=60000
cd "$here"
for cell; do
    workload=${cell%% *} row=${cell#* }
    perf record -q -a -F 1999 -o "$folder/data" -- \
        "$bench" run --weir "$folder/weir" --peers weir --only "$workload" --rows "$row" \
        --repeats 1 --out "$folder/results.json" >"$folder/said" 2>&1 || { cat "$folder/said"; exit 1; }
    file="$out/$(echo "$cell" | tr ' →' '-_').txt"
    {
        echo "# The broker in $workload, rows with \"$row\", all samples of the row together:"
        echo "# share of its CPU time by function. $(date -u '+%Y-%m-%d %H:%M UTC'), $("$folder/weir" --version)."
        # Every broker of the row is a process of its own.
        pids=$(perf report -i "$folder/data" --stdio -q --sort pid 2>/dev/null |
            sed -n 's/^ *[0-9.]*% *\([0-9]*\):weir *$/\1/p' | paste -sd, -)
        perf report -i "$folder/data" --stdio -q --no-children -g none --pid "$pids" \
            --sort comm,symbol --percent-limit 0.4 2>/dev/null | sed '/^$/d' | sed 's/ *$//'
    } >"$file"
    echo "$file"
done
