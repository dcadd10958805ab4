#!/usr/bin/env bash
# Counts what a message costs in instructions, scenario by scenario, and refuses
# more than 5 % above `baseline.txt`.
#
#     tests/instructions/check.sh                     # compare
#     tests/instructions/check.sh --renew             # write the baseline
#     tests/instructions/check.sh --profile SCENARIO  # the functions that cost most
#
# Instructions, not time: the same on a busy machine, and one run is enough. They
# hang on the compiler and the C library, so a baseline made with others says
# nothing; where one differs, or valgrind is missing, this says so and passes.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
baseline=tests/instructions/baseline.txt
renew="tests/instructions/check.sh --renew"
tolerance_percent=5

mode="${1:-compare}"
case "$mode:$#" in
compare:0 | --renew:1 | --profile:2) ;;
*)
    echo "usage: tests/instructions/check.sh [--renew | --profile SCENARIO]" >&2
    exit 2
    ;;
esac

skip() {
    echo "SKIPPED instructions: $*"
    exit 0
}

command -v valgrind >/dev/null || skip "valgrind is not installed"
made_with="$(rustc --version), $(uname -m), $(getconf GNU_LIBC_VERSION 2>/dev/null || echo "another C library")"
if [ "$mode" = compare ]; then
    recorded=$(sed -n 's/^# made with: //p' "$baseline")
    [ "$recorded" = "$made_with" ] ||
        skip "the baseline was made with $recorded, this is $made_with; $renew on the old commit, then compare"
fi

target="${CARGO_TARGET_DIR:-target}"
cargo build --quiet --locked --profile counted -p weir-instructions
binary="$target/counted/weir-instructions"
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# Addresses seed the fast hashes; where they may not be fixed, many messages
# average what is left.
fixed=(setarch "$(uname -m)" -R)
"${fixed[@]}" true 2>/dev/null || fixed=()
# `rep movsb` would count every byte it copies as an instruction.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824

# Runs a scenario. Leaves callgrind's file, prints instructions a message.
count() {
    local messages
    messages=$("${fixed[@]}" valgrind --quiet --tool=callgrind --collect-atstart=no \
        --toggle-collect='weir_instructions::measured' \
        --callgrind-out-file="$counts/$1" "$binary" "$1")
    awk -v messages="$messages" '/^(totals|summary):/ { sum = $2 } END {
        if (sum + 0 == 0) exit 1
        printf "%.1f\n", sum / messages
    }' "$counts/$1" || { echo "callgrind counted nothing for $1" >&2; exit 2; }
}

# What fails inside of the words of a loop or of an echo ends nothing: names and counts
# are taken apart from them.
scenarios=$("$binary")
[ -n "$scenarios" ] || { echo "$binary knows no scenario" >&2; exit 2; }

case "$mode" in
--profile)
    grep -qx -- "$2" <<<"$scenarios" ||
        { echo "there is no scenario $2; there are ${scenarios//$'\n'/, }" >&2; exit 2; }
    each=$(count "$2")
    echo "$2: $each instructions a message"
    callgrind_annotate --auto=no "$counts/$2" | sed -n '/file:function/,$p' | sed 's/ \[.*//' | head -n 30
    exit 0
    ;;
--renew)
    {
        echo "# Instructions a message, by scenario. Written by $renew"
        echo "# made with: $made_with"
        for scenario in $scenarios; do
            now=$(count "$scenario")
            echo "$scenario $now"
        done
    } >"$counts/baseline"
    cp "$counts/baseline" "$baseline"
    cat "$baseline"
    exit 0
    ;;
esac

status=0
for scenario in $(sed -n 's/^\([a-z][a-z-]*\) .*/\1/p' "$baseline"); do
    if ! grep -qx -- "$scenario" <<<"$scenarios"; then
        echo "$scenario: in the baseline, and no scenario: nothing is counted; if it is gone for good, $renew"
        status=1
    fi
done
for scenario in $scenarios; do
    now=$(count "$scenario")
    before=$(awk -v scenario="$scenario" '$1 == scenario { print $2 }' "$baseline")
    if [ -z "$before" ]; then
        echo "$scenario: $now instructions a message, and no baseline: write one with $renew"
        status=1
        continue
    fi
    percent=$(awk -v now="$now" -v before="$before" 'BEGIN { printf "%+.1f", 100 * now / before - 100 }')
    # Not of the percent that is printed: it is rounded.
    verdict=$(awk -v now="$now" -v before="$before" -v most="$tolerance_percent" 'BEGIN {
        print (now > before * (1 + most / 100) ? "more" : now < before * (1 - most / 100) ? "less" : "same")
    }')
    case "$verdict" in
    more)
        echo "$scenario takes $now instructions a message, $percent % against the baseline's $before:" \
            "find out why with tests/instructions/check.sh --profile $scenario, or accept it with $renew"
        status=1
        ;;
    less) echo "$scenario: $now instructions a message, $before before ($percent %): keep the gain with $renew" ;;
    same) echo "$scenario: $now instructions a message, $before before ($percent %)" ;;
    esac
done
exit "$status"
