#!/bin/sh
# Makes the bucket where it is missing. `weed shell` always ends well, so the list of buckets is asked afterwards.
set -eu

master=s3:9333
tries=30
while [ "$tries" -gt 0 ]; do
  if echo 's3.bucket.list' | weed shell -master="$master" 2>/dev/null | grep -qw atelier; then
    exit 0
  fi
  echo 's3.bucket.create -name atelier' | weed shell -master="$master" || true
  tries=$((tries - 1))
  sleep 2
done
echo 'the bucket could not be made' >&2
exit 1
