#!/usr/bin/env bash
# Start a Slurm cluster of one node, this machine, for trials and tests: munged, slurmctld, slurmd, as root.
#   apt-get install slurmctld slurmd slurm-client munge        (Debian)
#   eval "$(bash tests/slurm/start.sh [FOLDER])"               its commands find it by SLURM_CONF, which this sets
#   bash tests/slurm/stop.sh [FOLDER]                          ends the three daemons
# Everything that it writes but munge's socket is in FOLDER (default /tmp/persist-slurm). No accounting, no GPU.
set -euo pipefail
folder=${1:-/tmp/persist-slurm}
mkdir -p "$folder"/{state,spool,log}
memory=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
cat > "$folder/slurm.conf" <<EOF
ClusterName=persist
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
export SLURM_CONF=$folder/slurm.conf
{
  mkdir -p /run/munge && chown munge: /run/munge /etc/munge/munge.key
  [ -S /run/munge/munge.socket.2 ] && munge --no-input > /dev/null || runuser -u munge -- munged --pid-file /run/munge/munged.pid
  slurmctld
  slurmd
  for _ in $(seq 60); do
    sinfo --noheader --format %t 2> /dev/null | grep -q idle && break
    sleep 1
  done
  sinfo
} >&2
sinfo --noheader --format %t | grep -q idle || { echo "error: the node is not idle; see $folder/log" >&2; exit 1; }
echo "export SLURM_CONF=$SLURM_CONF"
