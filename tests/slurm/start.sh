#!/usr/bin/env bash
# Start a Slurm cluster of one node, this machine, for trials and tests: munged, slurmctld, slurmd, as root.
#   apt-get install slurmctld slurmd slurm-client munge        (Debian)
#   bash tests/slurm/start.sh
#   bash tests/slurm/stop.sh           ends those of the three that this started
# It writes /etc/slurm/slurm.conf, unless there is one already that is not its own, and /var/lib/persist-slurm.
# One partition, "trial". No accounting, no GPU.
set -euo pipefail
conf=/etc/slurm/slurm.conf
folder=/var/lib/persist-slurm
if [ -e $conf ] && ! grep -q '^ClusterName=persist-trial$' $conf; then
  echo "error: this machine belongs to a cluster already, see $conf; nothing was changed" >&2
  exit 1
fi
mkdir -p /etc/slurm $folder/{state,spool,log}
memory=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
cat > $conf <<EOF
ClusterName=persist-trial
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# no cgroups, so that it runs in a container
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# a job gets cores and memory of its own
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
MinJobAge=600
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=trial Nodes=ALL Default=NO MaxTime=60 State=UP
EOF
mkdir -p /run/munge $folder/munge && chown munge: /run/munge $folder/munge /etc/munge/munge.key
munge --no-input > /dev/null 2>&1 || runuser -u munge -- munged --pid-file $folder/munge/munged.pid
slurmctld
slurmd
for _ in $(seq 60); do
  sinfo --noheader --format %t 2> /dev/null | grep -q idle && exec sinfo
  sleep 1
done
echo "error: the node is not idle after a minute; see $folder/log" >&2
exit 1
