#!/bin/sh
# Profiles the broker in cells of the benchmark, one file each in docs/performance/profiles:
# where its CPU time goes, the clients' and the machine's left out. Needs root and `perf`.
#
#   tests/bench/profiles.sh WEIR WEIR-BENCH [CELL ...]
#
# A CELL is a workload and a part of its row's name: "w3 stream 1024". Without any it takes
# those below, in which targets are missed.
set -eu
weir=$(realpath "$1") bench=$(realpath "$2")
shift 2
here=$(cd "$(dirname "$0")" && pwd)
out="$here/../../docs/performance/profiles"
mkdir -p "$out"
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
# A copy of that name, so that its processes are known: no other broker may run.
cp "$weir" "$folder/weir"
[ $# -gt 0 ] || set -- "w1 1→8 128" "w2 queue 128" "w3 stream 128" "w3 stream 1024" \
    "w4 queue 128" "w5 64 in" "w6 1→1 128" "w6 4→4 128" "w6 queue 128" "w6 stream 128" \
    "w7 1000 queues" "w7 100000 queues" "w7 workers 1→1"
# What clients free is kept for what they need next, as in bench.sh.
export MIMALLOC_PURGE_DELAY=60000
cd "$here"
report() {
    perf report -i "$folder/data" --stdio -q "$@" 2>/dev/null
}
for cell; do
    workload=${cell%% *} row=${cell#* }
    rm -f "$folder/processes" "$folder/done"
    until [ -e "$folder/done" ]; do
        pgrep -x weir >>"$folder/processes" || true
        sleep 0.2
    done &
    perf record -q -a -F 1999 -o "$folder/data" -- \
        "$bench" run --weir "$folder/weir" --peers weir --only "$workload" --rows "$row" \
        --repeats 1 --out "$folder/results.json" >"$folder/said" 2>&1 || {
        touch "$folder/done"
        cat "$folder/said"
        exit 1
    }
    touch "$folder/done"
    wait
    file="$out/$(echo "$cell" | sed 's/→/-/g; s/ /_/g').txt"
    {
        echo "The broker's CPU time by thread and function, in percent of what its process took in"
        echo "these samples: starting, what is made before, and waiting for the disk count as well."
        echo "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git describe --always). A block for each"
        echo "process of the broker that ran, in their order; some only told their version. Code of"
        echo "policies is too scattered to be named. The samples:"
        echo
        grep "^W" "$folder/said" | cut -d'|' -f1,2
        # Numbers rise in the order in which they were started.
        sort -nu "$folder/processes" |
            while read -r process; do
                echo
                echo "--- a process"
                # By thread: perf joins what is named alike before it looks whose it is.
                report --no-children -g none --pid "$process" --percentage relative \
                    --sort pid,symbol | sed -n 's/^ *\([0-9.]*\)% *[0-9]*:\([^ ]*\) *\(.*\)$/\1 \2 \3/p' |
                    awk '{ share = $1; $1 = ""; sum[$0] += share }
                        END { for (one in sum) if (sum[one] >= 1) printf "%6.2f%% %s\n", sum[one], one }' |
                    sort -rn | sed 's/[ -]*$//' | cut -c1-120
            done
    } >"$file"
    echo "$file"
done
