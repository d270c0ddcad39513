#!/usr/bin/env bash
# End the daemons that start.sh started.
folder=${1:-/tmp/persist-slurm}
for pid in "$folder"/slurmd.pid "$folder"/slurmctld.pid /run/munge/munged.pid; do
  [ -f "$pid" ] && kill "$(cat "$pid")"
done
