#!/bin/bash
# First process of the guest of nfs_lab.py: an NFS server, two clients c1 and c2 with a mount each, then the scenario.
# $LAB (writable, on the host) holds: scenario.sh, modules/, and receives: log, status, all that the scenario leaves.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
for folder in /run /mnt /dev/shm; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
mkdir -p /run/{netns,tmp,rpc_pipefs} /run/nfs/{v4recovery,rpc_pipefs,sm,sm.bak} /mnt/{srv,c1,c2,lab}
mount -t hostfs none /mnt/lab -o "$LAB"
exec >/mnt/lab/log 2>&1
mount --bind /run/nfs /var/lib/nfs
touch /run/nfs/{etab,rmtab,state}
for module in nfsd nfs nfsv4 nfsv3 lockd veth; do modprobe -q -d "$LAB/modules" $module; done
mount -t rpc_pipefs pipes /run/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
ip link set lo up
for n in 1 2; do
  ip netns add c$n
  ip link add v$n type veth peer name eth0 netns c$n
  ip addr add 10.9.$n.1/24 dev v$n
  ip link set v$n up
  ip -n c$n addr add 10.9.$n.2/24 dev eth0
  ip -n c$n link set eth0 up
  ip -n c$n link set lo up
  # Without names of their own the two would be one NFSv4 client, and share all locks.
  ip netns exec c$n sh -c "printf c$n > /sys/fs/nfs/net/nfs_client/identifier"
done
mount -t tmpfs tmpfs /mnt/srv
chmod 777 /mnt/srv
rpcbind -w
rpc.statd --no-notify
exportfs -o rw,async,no_root_squash,no_subtree_check,insecure,fsid=0 '*:/mnt/srv'
# A server that has just started grants no lock for 50 s, lest clients want theirs back.
echo 3 >/proc/sys/fs/nfs/nlm_timeout
echo 3 >/proc/sys/fs/nfs/nlm_grace_period
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
rpc.nfsd --host 10.9.1.1 --host 10.9.2.1 4
rpc.mountd 2>/dev/null
echo Y >/proc/fs/nfsd/v4_end_grace
for n in 1 2; do
  case $NFS in 3*) export=/mnt/srv ;; *) export=/ ;; esac
  nsenter --net=/run/netns/c$n mount -t nfs -o "vers=$NFS" 10.9.$n.1:$export /mnt/c$n
done

# on N COMMAND...: run it as host cN, in namespaces of its own; when this process is killed, so is all that it started.
on() {
  local n=$1
  shift
  exec nsenter --net=/run/netns/c$n unshare --uts --pid --fork --kill-child --mount-proc \
    sh -c 'hostname "$0" && exec "$@"' c$n "$@"
}

# until_true SECONDS COMMAND...: poll until it succeeds.
until_true() {
  local left=$(($1 * 10))
  shift
  until "$@"; do
    [ $((left--)) -gt 0 ] || { echo "in vain: $*"; return 1; }
    sleep 0.1
  done
}

cd /mnt/lab
(set -e; source ./scenario.sh)
echo $? >status
sync
exec halt -f
