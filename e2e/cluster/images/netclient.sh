#!/bin/sh
# Plays netclient in tests: joins a WireGuard network, that is, brings up an interface by wireguard-go, and
# keeps it. It answers to the environment of the real one as far as tests need it:
#
#   JOIN_AFTER   seconds until it joins (0), or `never`
#   ADDRESS      its address with the prefix length; by default one of 10.101.0.0/16, after the pod's own
#   IFACE_NAME   the interface (netmaker)
#   LISTEN_PORT  of WireGuard (51821)
#
# `netclient up` and `netclient down` in the running container are what tests flap it with.
set -eu
iface=${IFACE_NAME:-netmaker}

address() {
    if [ -n "${ADDRESS:-}" ]; then
        echo "$ADDRESS"
    else
        # The last two numbers of the pod's address.
        ip -4 -o addr show eth0 | sed 's/.*inet [0-9]*\.[0-9]*\.\([0-9.]*\)\/.*/10.101.\1\/16/'
    fi
}

up() {
    [ -s /etc/netclient/key ] || (umask 077 && wg genkey >/etc/netclient/key)
    # It goes into the background when the interface is there, and must not hold on to whoever started it.
    LOG_LEVEL=error wireguard-go "$iface" </dev/null >/tmp/wireguard-go.log 2>&1
    wg set "$iface" private-key /etc/netclient/key listen-port "${LISTEN_PORT:-51821}"
    ip link set "$iface" up
    ip addr add "$(address)" dev "$iface"
    echo "joined: $(address)"
}

down() {
    # wireguard-go ends with its interface.
    ip link del "$iface"
}

case ${1:-join} in
up | down) "$1" ;;
join)
    trap 'exit 0' TERM INT
    if [ "${JOIN_AFTER:-0}" != never ]; then
        sleep "${JOIN_AFTER:-0}" &
        wait $!
        up
    fi
    while :; do
        sleep 3600 &
        wait $!
    done
    ;;
*)
    echo "netclient: join, up or down, not $1" >&2
    exit 2
    ;;
esac
