#!/bin/busybox sh
# What the virtual blade does with its lease.
export PATH=/bin
case $1 in
bound | renew)
    ip addr flush dev eth0
    ip addr add "$ip/$mask" dev eth0
    [ -z "$router" ] || ip route add default via "${router%% *}" dev eth0
    [ -z "$hostname" ] || hostname "$hostname"
    {
        echo "router: $router"
        echo "dns: $dns"
        echo "domain: $domain"
        echo "server: $serverid"
        echo "lease: $lease"
    } >/tmp/lease
    ;;
esac
