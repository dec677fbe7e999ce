#!/bin/sh
# Watches a pipeline from a shell: makes a monitor, records every file as a generation, prints the verdicts.
#
#   monitor.sh MONITOR texts-0.txt texts-1.txt ...
#
# A file has a text a line. COORDINATOR is host:port, CALL the program that calls: grpcurl, or call.py beside this file.
set -eu

coordinator=${COORDINATOR:-127.0.0.1:50054}
here=$(dirname "$0")
call=${CALL:-python3 $here/call.py}
service=ouroscope.v1.MonitorService
monitor=$1
shift

# $call is several words on purpose.
ask() { $call -plaintext -d "$2" "$coordinator" "$service/$1"; }

ask CreateMonitor "{\"monitor_id\": \"$monitor\"}" > /dev/null

number=0
for file in "$@"; do
  # The first message says which generation this is; every message carries documents, some hundred each.
  jq -cRn --arg parent "monitors/$monitor" --argjson number "$number" '
    [inputs | select(test("\\S"))] | to_entries
    | map({id: "line-\(.key)", text: .value})
    | {parent: $parent, number: $number}, (range(0; length; 200) as $begin | {documents: .[$begin:$begin + 200]})
  ' "$file" | $call -plaintext -d @ "$coordinator" "$service/RecordGeneration" | jq -r '"\(.verdict // "BASELINE")\t\(.sentence)"'
  number=$((number + 1))
done
