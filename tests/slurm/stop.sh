#!/usr/bin/env bash
# End the daemons that start.sh started; a munged that ran before it stays.
for pid in /var/lib/persist-slurm/{slurmd,slurmctld,munge/munged}.pid; do
  if [ -f $pid ]; then
    kill "$(cat $pid)" || true
  fi
done
