#!/bin/sh
# Profiles the broker in cells of the benchmark, one file each in docs/performance/profiles:
# where its CPU time goes while windows are measured; its start, the clients and the machine
# are left out. Needs root and `perf`. Samples slow down a broker that mostly waits, by up to
# 1.9 times, and `perf` starts and ends beside the load: rates and times are not to be read
# here.
#
#   tests/bench/profiles.sh WEIR WEIR-BENCH [CELL ...]
#
# A CELL is a workload and a part of its row's name: "w3 stream 1024". Without any it takes
# those below.
set -eu
weir=$(realpath "$1") bench=$(realpath "$2")
shift 2
here=$(cd "$(dirname "$0")" && pwd)
out="$here/../../docs/performance/profiles"
mkdir -p "$out"
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
# A copy, so that a build meanwhile does not change where names are read from.
cp "$weir" "$folder/weir"
[ $# -gt 0 ] || set -- "w1 1→1 128" "w1 1→1 1024" "w1 1→8 128" "w1 1→8 1024" "w1 4→4 128" \
    "w1 4→4 1024" "w2 queue 128" "w3 stream 128" "w3 stream 1024" "w4 pub/sub 128" \
    "w4 pub/sub 1024" "w4 queue 128" "w4 queue 1024" "w5 64 in" "w6 1→1 128" "w6 1→1 1024" \
    "w6 1→8 128" "w6 4→4 128" "w6 4→4 1024" "w6 queue 128" "w6 queue 1024" "w6 stream 128" \
    "w6 stream 1024" "w7 1000 queues" "w7 100000 queues" "w7 workers 1→1" "w7 workers 1→8" \
    "w7 workers 4→4" "w7 workers queue"
# What clients free is kept for what they need next, as in bench.sh.
export MIMALLOC_PURGE_DELAY=60000
export WEIR_BENCH_PROFILE="$folder/windows"
cd "$here"
# Of the tree as it begins: the files that are written here change it.
commit=$(git describe --always --dirty || echo unknown)
# Between columns, as names hold blanks and semicolons; `perf` wants the character itself.
tab=$(printf '\t')

# What the benchmark said: each window's number, and the line of its sample. The windows of
# a sample are told first. One that fails has no lines, so its windows go with it; what has
# no server, W5's yardsticks, has lines and no window.
pairs() {
    awk '
        BEGIN { first = last = 0 }
        $1 == "window" { number = $2; sub(/:$/, "", number); waiting[last++] = number }
        /^FAILED/ { first = last }
        /^W[0-9]/ && first < last { print waiting[first++] " " $0 }
    '
}

# The block of one window: its file, and the line of its sample.
block() {
    echo
    # Its name, its figures and its resources on a line each.
    printf '%s\n' "$2" |
        awk '{ sub(/: /, ":\n    "); gsub(/ [|] /, "\n    "); print "--- " $0 }'
    # Samples are counted rather than percents added up, which are rounded. 4999 of them
    # are a second, as profile.rs says.
    perf report -i "$1" --stdio -q -t "$tab" -F sample,comm,sym </dev/null 2>/dev/null |
        awk -F "$tab" '
        # The name with the most samples, the first in the alphabet among equals.
        function most(samples,    name, best) {
            best = ""
            for (name in samples) {
                if (best == "" || samples[name] > samples[best] ||
                    (samples[name] == samples[best] && name < best)) {
                    best = name
                }
            }
            return best
        }
        function percent(samples) {
            return 100 * samples / all
        }
        NF >= 3 && $1 + 0 > 0 {
            count = $1 + 0
            thread = $2
            gsub(/^ +| +$/, "", thread)
            symbol = $3
            sub(/[ -]*$/, "", symbol)
            # Each address by itself, where no function is known: mostly code of policies.
            if (symbol ~ /^\[.\] 0x[0-9a-f]+$/) {
                symbol = substr(symbol, 1, 3) " code without a name"
            }
            all += count
            threads[thread] += count
            if (symbol ~ /^\[k\]/) {
                kernel[thread] += count
            }
            functions[thread " " symbol] += count
        }
        END {
            if (all == 0) {
                print "    no samples"
                exit
            }
            printf "    %d samples: %.2f s of CPU time\n\n", all, all / 4999
            print "    all     user   kernel"
            while ((one = most(threads)) != "") {
                user = threads[one] - kernel[one]
                printf "%6.2f%%  %6.2f%%  %6.2f%%  %s\n", percent(threads[one]), percent(user),
                    percent(kernel[one]), one
                delete threads[one]
            }
            print ""
            rest = all
            while ((one = most(functions)) != "" && percent(functions[one]) >= 0.5) {
                printf "%6.2f%%  %s\n", percent(functions[one]), one
                rest -= functions[one]
                delete functions[one]
            }
            printf "%6.2f%%  ... everything below that\n", percent(rest)
        }
    '
}

for cell; do
    workload=${cell%% *} row=${cell#* }
    rm -rf "$WEIR_BENCH_PROFILE"
    mkdir "$WEIR_BENCH_PROFILE"
    "$bench" run --weir "$folder/weir" --peers weir --only "$workload" --rows "$row" \
        --repeats 1 --out "$folder/results.json" >"$folder/said" 2>&1 || {
        cat "$folder/said"
        exit 1
    }
    pairs <"$folder/said" >"$folder/pairs"
    [ -s "$folder/pairs" ] || echo "$cell: no window was measured" >&2
    file="$out/$(echo "$cell" | sed 's/→/-/g; s/ /_/g; s,/,-,g').txt"
    {
        echo "Where the broker's CPU time goes in the cell \"$cell\" of the benchmark."
        echo "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $commit."
        echo
        echo "A block for each window, with the line of its sample. 100 % is all that the broker's"
        echo "process took while the window was measured: by thread, those of one name together,"
        echo "in its own code and in the kernel's; then by function, [.] its own and [k] the"
        echo "kernel's, down to 0.5 %. Code without a name is mostly what policies were compiled"
        echo "to. Taking samples slows down a broker that mostly waits, by up to 1.9 times: its"
        echo "rate is told to know the sample by."
        # What is missing, and why; failures are said twice.
        awk '
            /^SKIPPED|^FAILED|^window [0-9]+:/ && !told[$0]++ {
                if (!any++) print ""
                print
            }
        ' "$folder/said"
        while read -r number line; do
            block "$WEIR_BENCH_PROFILE/$number.data" "$line"
        done <"$folder/pairs"
    } | cut -c1-120 >"$file"
    echo "$file"
done
