#!/usr/bin/env bash
# Makes the appliance: Rust, netboot's own setup, a release build, a service on the PXE interface.
set -euo pipefail
address=$1
source=/srv/netboot
data=/var/lib/netboot

export DEBIAN_FRONTEND=noninteractive
if ! command -v gcc >/dev/null || ! command -v curl >/dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends ca-certificates curl gcc git libc6-dev
fi
export PATH=$HOME/.cargo/bin:$PATH
if ! command -v rustup >/dev/null; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
fi

cd "$source"
cargo xtask setup
cargo build --release --locked --package netboot
install -m 0755 target/release/netboot /usr/local/bin/netboot

# What the operator starts from, and the boot payload that setup has unpacked. What is there already is his.
mkdir -p "$data/tftp"
cp --no-clobber data.sample/*.json data.sample/*.yaml "$data/"
lab=target/lab
cp --no-clobber "$lab/packages/pxelinux/usr/lib/PXELINUX/pxelinux.0" "$data/tftp/"
cp --no-clobber "$lab/packages/syslinux-common/usr/lib/syslinux/modules/bios/ldlinux.c32" "$data/tftp/"
for channel in stable beta; do
    cp --no-clobber "$lab"/packages/linux-image-cloud-amd64/boot/vmlinuz-* "$data/tftp/coreos_${channel}_pxe.vmlinuz"
    cp --no-clobber "$lab"/guest/initramfs-*.cpio.gz "$data/tftp/coreos_${channel}_pxe_image.cpio.gz"
done

interface=$(ip -o -4 addr show | awk -v addr="$address/24" '$4 == addr { print $2 }')
[ -n "$interface" ] || { echo "no interface has $address/24" >&2; exit 1; }
cat >/etc/systemd/system/netboot.service <<UNIT
[Unit]
Description=netboot, boots machines from the network
After=network.target

[Service]
Type=notify
ExecStart=/usr/local/bin/netboot serve --interface $interface --data $data
# Another binary or other settings without a gap: systemctl reload netboot
ExecReload=/bin/kill -USR1 \$MAINPID
Restart=always

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable netboot.service
systemctl restart netboot.service
systemctl --no-pager status netboot.service
