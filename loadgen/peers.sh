#!/usr/bin/env bash
# Fetches the systems we measure ourselves against from Debian sid into a folder, without installing anything.
#
#   loadgen/peers.sh [--check]
#
# The binaries go to $SYSTOLE_PEERS, by default target/peers beside this workspace's target folder:
# prometheus, promtool, victoria-metrics, prometheus-node-exporter, and the packages' versions to VERSIONS there;
# with them vmagent, which tests use where it is there.
# What is there is not fetched again.
# With --check nothing is fetched. Prints the folder. Exit codes: 0 there, 3 cannot be had here, 2 usage.
set -u

SUITE=sid
PACKAGES=(prometheus promtool victoria-metrics prometheus-node-exporter)
BINARIES=(prometheus promtool victoria-metrics prometheus-node-exporter)

root=$(cd "$(dirname "$0")/.." && pwd)
PEERS=${SYSTOLE_PEERS:-${CARGO_TARGET_DIR:-$root/target}/peers}

cannot() {
    echo "peers: $*" >&2
    echo "peers: put ${BINARIES[*]} into a folder yourself and set SYSTOLE_PEERS to it" >&2
    exit 3
}

complete() {
    local b
    for b in "${BINARIES[@]}"; do
        "$PEERS/$b" --version >/dev/null 2>&1 || return 1
    done
}

# Prints one apt line for $SUITE made from the first Debian mirror the system itself uses.
derive_source() {
    local f
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -f "$f" ] || continue
        awk -v suite="$SUITE" '
            function flush() {
                if (uri != "" && suites ~ codename && suites !~ /security/ && !done) {
                    opts = signed == "" ? "" : "[signed-by=" signed "] "
                    print "deb " opts uri " " suite " main"; done = 1
                }
                uri = ""; suites = ""; signed = ""
            }
            BEGIN { codename = "(bookworm|trixie|forky|sid|stable|testing|unstable)" }
            /^#/ { next }
            /^[ \t]*$/ { flush(); next }
            /^URIs:/ { uri = $2 }
            /^Suites:/ { suites = $0 }
            /^Signed-By:/ { signed = $2 }
            END { flush() }' "$f"
    done
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$f" ] || continue
        awk -v suite="$SUITE" '
            $1 == "deb" {
                opts = ""; i = 2
                if ($2 ~ /^\[/) { while (i <= NF) { opts = opts $i " "; if ($i ~ /\]$/) break; i++ } i++ }
                if ($(i + 1) ~ /^(bookworm|trixie|forky|sid|stable|testing|unstable)$/) {
                    print "deb " opts $i " " suite " main"; exit
                }
            }' "$f"
    done
}

case "${1:-}" in
    "") ;;
    --check) complete && echo "$PEERS" && exit 0; exit 3 ;;
    *) echo "usage: peers.sh [--check]" >&2; exit 2 ;;
esac

if complete; then
    echo "$PEERS"
    exit 0
fi
for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || cannot "$tool is not here: peers come as Debian packages"
done
source_line=$(derive_source | head -n 1)
[ -n "$source_line" ] || cannot "no Debian mirror in /etc/apt/sources.list*"

mkdir -p "$PEERS" || cannot "cannot create $PEERS"
# Two test runs may come here at once: the second waits and finds the work done.
exec 9>"$PEERS/.lock" && flock 9
if complete; then
    echo "$PEERS"
    exit 0
fi
apt=$PEERS/.apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state" "$apt/debs" "$apt/unpacked"
chmod -R a+rX "$PEERS"
: >"$apt/status"
echo "$source_line" >"$apt/sources.list"
# The system's own apt settings (proxies, credentials) stay in force; only lists, caches and state are ours.
options=(
    -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State=$apt/state" -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false -q
)
apt-get "${options[@]}" update >"$apt/update.log" 2>&1 || true
(cd "$apt/debs" && apt-get "${options[@]}" download "${PACKAGES[@]}") >"$apt/download.log" 2>&1 ||
    cannot "apt-get download failed: $(grep -E '^(E|W|Err)' "$apt/update.log" "$apt/download.log" | tail -n 1)"
for package in "${PACKAGES[@]}"; do
    dpkg -x "$(ls -t "$apt/debs/${package}"_*.deb | head -n 1)" "$apt/unpacked" || cannot "cannot unpack $package"
done
for deb in "$apt/debs"/*.deb; do
    dpkg-deb --show --showformat='${Package} ${Version}\n' "$deb"
done >"$PEERS/VERSIONS"
for b in "${BINARIES[@]}"; do
    cp "$apt/unpacked/usr/bin/$b" "$PEERS/$b.new" && mv "$PEERS/$b.new" "$PEERS/$b" || cannot "no $b in its package"
done
if [ -x "$apt/unpacked/usr/bin/vmagent" ]; then
    cp "$apt/unpacked/usr/bin/vmagent" "$PEERS/vmagent.new" && mv "$PEERS/vmagent.new" "$PEERS/vmagent"
fi
rm -rf "$apt"
complete || cannot "the binaries in $PEERS do not run on this machine"
echo "$PEERS"
