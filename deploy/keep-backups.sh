#!/bin/sh
# Back the store up into FOLDER, with the overlay that belongs to it, and keep the newest KEEP backups.
# Meant for one run at a time: the CronJob and the timer see to that. An older backup goes only after a new one was verified.
# Usage: keep-backups.sh FOLDER [KEEP]      (KEEP: 14 without it)
set -eu
umask 077
folder=${1:?name the folder that takes the backups}
keep=${2:-14}
case $keep in
  '' | *[!0-9]* | 0*)
    echo "keep-backups: $keep is no number of backups to keep; give 1 or more" >&2
    exit 2
    ;;
esac
base=$folder/voicegw-$(date -u +%Y%m%dT%H%M%SZ)
# The overlay first: the journal in the store then knows every change that the copied overlay has.
if [ -n "${VOICEGW_OVERLAY:-}" ] && [ -e "$VOICEGW_OVERLAY" ]; then
  cp "$VOICEGW_OVERLAY" "$base.overlay.yaml"
fi
if ! voicegw backup "$base.db"; then
  rm -f "$base.overlay.yaml"
  exit 1
fi
# What a killed run left behind, a day later.
find "$folder" -maxdepth 1 -name 'voicegw-*.db.partial-*' -mmin +1440 -exec rm -f {} +
# The times in the names sort as they follow each other.
find "$folder" -maxdepth 1 -name 'voicegw-*Z.db' | sort -r | tail -n "+$((keep + 1))" | while read -r old; do
  rm -f "$old" "${old%.db}.overlay.yaml"
done
