#!/bin/sh
# Counts what a message costs the broker beside time, in some cells of the benchmark:
# allocations, system calls, changes of threads, wake-ups. Needs root, `perf` and the
# kernel's probes; the probes slow the broker down, so rates are not to be read here.
#
#   tests/bench/counts.sh WEIR WEIR-BENCH [arguments of `weir-bench run`]
set -eu
weir=$(realpath "$1") bench=$(realpath "$2")
shift 2
here=$(cd "$(dirname "$0")" && pwd)
[ -e /sys/kernel/tracing/uprobe_events ] || mount -t tracefs nodev /sys/kernel/tracing
# A copy of that name, so that the probes' group is known.
folder=$(mktemp -d)
trap 'perf probe -q -d "probe_weir:*" || true; rm -r "$folder"' EXIT
cp "$weir" "$folder/weir"
allocations=""
for function in mi_malloc_aligned mi_zalloc_aligned mi_realloc_aligned; do
    perf probe -q -x "$folder/weir" -a "$function"
    allocations="$allocations+probe_weir:$function"
done
export WEIR_BENCH_COUNTS="allocations=${allocations#+},syscalls=raw_syscalls:sys_enter,\
switches=context-switches,wakeups=sched:sched_waking"
cd "$here"
"$bench" run --weir "$folder/weir" --peers weir --only w1,w2,w3 --out /dev/null \
    --rows "1→1 128,1→8 128,queue 128,stream 128" --repeats 1 --seconds 2 "$@"
