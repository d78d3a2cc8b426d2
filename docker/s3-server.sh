#!/bin/sh
# Starts SeaweedFS as an S3 server whose one user has the keys in /run/secrets.
set -eu

umask 077
cat >/tmp/s3.json <<JSON
{"identities": [{"name": "atelier",
  "credentials": [{"accessKey": "$(cat /run/secrets/s3_access_key)", "secretKey": "$(cat /run/secrets/s3_secret_key)"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
exec weed server -dir=/data -volume.max=0 -master.volumeSizeLimitMB=1024 -s3 -s3.port=8333 -s3.config=/tmp/s3.json
