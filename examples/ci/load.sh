#!/bin/sh
# The load test: 30 requests, of which every third is given up by the service. leakprobe says in LEAKPROBE_READY where the
# service listens.
set -eu
address=${LEAKPROBE_READY:-127.0.0.1:8080}
for _ in $(seq 30); do
    curl --silent --output /dev/null "http://$address/price"
done
echo "30 requests"
