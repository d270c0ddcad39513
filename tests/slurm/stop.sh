#!/usr/bin/env bash
# End the daemons that start.sh started.
for pid in /var/lib/persist-slurm/slurmd.pid /var/lib/persist-slurm/slurmctld.pid /run/munge/munged.pid; do
  [ -f $pid ] && kill "$(cat $pid)"
done
