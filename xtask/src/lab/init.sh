#!/bin/busybox sh
# The first and only program of a virtual blade: asks for an address, fetches its cloud-config as its kernel command
# line says, prints both between markers, and switches the machine off.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# The kernel's messages go to ttyS1, as the operators' command line says; this port has the firmware's and ours.
exec </dev/null >/dev/ttyS0 2>&1

echo "netboot blade: Linux $(uname -r) is up"
while read -r module; do
    insmod "/modules/$module" || echo "netboot blade: cannot load $module"
done </modules/order

ip link set lo up
tries=0
until ip link set eth0 up 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || { echo "netboot blade: FAILED: no eth0"; poweroff -f; }
    usleep 100000
done

udhcpc -i eth0 -f -n -q -t 10 -T 2 -s /udhcpc.sh || { echo "netboot blade: FAILED: no DHCP answer"; poweroff -f; }

url=
for word in $(cat /proc/cmdline); do
    case $word in cloud-config-url=*) url=${word#cloud-config-url=} ;; esac
done
place=${url#http://}
server=${place%%/*}
path=/${place#"$server"}
path=/${path##/}
host=${server%%:*}
port=${server##*:}
[ "$port" != "$host" ] || port=80

# nc and not wget, which drops the text of an error page. The fifo stays open: a closed standard input would tell the
# server that the client has gone.
mkfifo /tmp/request
tries=0
while :; do
    exec 3<>/tmp/request
    printf 'GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$server" >&3
    timeout 10 nc "$host" "$port" </tmp/request >/tmp/response
    exec 3>&-
    [ ! -s /tmp/response ] || break
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || { echo "netboot blade: FAILED: no answer from $url"; poweroff -f; }
    sleep 1
done

echo "=== netboot blade: report ==="
echo "hostname: $(hostname)"
ip -4 -o addr show dev eth0 | sed 's/.*inet \([^ ]*\).*/address: \1/'
cat /tmp/lease
echo "url: $url"
# What a test puts beside this system, to see whether it arrives.
[ ! -f /large ] || echo "large: $(sha256sum </large)"
echo "status: $(head -n 1 /tmp/response | tr -d '\r')"
echo "=== netboot blade: cloud-config ==="
sed '1,/^\r*$/d' /tmp/response
echo
echo "=== netboot blade: end ==="
poweroff -f
