#!/bin/sh
# Dumps the database once a day into /backups, and keeps the last BACKUP_KEEP dumps (docs/operate.md).
# Objects are not in it. Copy the bucket after the dump, never before: then each row of the dump has its files.
set -eu
while :; do
  name="/backups/matting-$(date -u +%Y-%m-%dT%H%M%SZ).dump"
  # A dump that is cut off must not look like a complete one.
  if pg_dump -Fc -f "$name.part" && mv "$name.part" "$name"; then
    echo "backup-done $name $(wc -c < "$name") bytes"
    # shellcheck disable=SC2012  # our own names have no odd characters
    ls -1 /backups/matting-*.dump | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | xargs -r rm --
    wait_s=86400
  else
    echo "backup-failed: tried again in 10 minutes" >&2
    wait_s=600
  fi
  if [ -n "${BACKUP_ONCE:-}" ]; then exit 0; fi
  sleep "$wait_s" &
  wait $!
done
